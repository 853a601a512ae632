//! A request of HTTP/1.1 (RFC 9112), as far as the answer depends on it.

/// How many headers a request may have.
const HEADERS: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpRequest {
    Metrics,
    /// Something else: the answer's status (RFC 9110 section 15), and its text.
    Refused(&'static str, &'static str),
}

impl HttpRequest {
    const NOT_FOUND: Self = HttpRequest::Refused("404 Not Found", "metrics are at /metrics");
    const OTHER_METHOD: Self = HttpRequest::Refused("405 Method Not Allowed", "only GET and HEAD");
    pub const TOO_LATE: Self =
        HttpRequest::Refused("408 Request Timeout", "a request within two seconds");
    pub const TOO_LONG: Self =
        HttpRequest::Refused("431 Request Header Fields Too Large", "a shorter request");
    const WRONG: Self = HttpRequest::Refused("400 Bad Request", "not HTTP");
}

/// What is asked for, and whether the answer has a body, which an answer to HEAD has not. None until the head of
/// the request is complete.
pub fn parse(bytes: &[u8]) -> Option<(HttpRequest, bool)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Err(httparse::Error::TooManyHeaders) => Some((HttpRequest::TOO_LONG, true)),
        Err(_) => Some((HttpRequest::WRONG, true)),
        Ok(httparse::Status::Complete(_)) => Some(match request.method {
            Some(method @ ("GET" | "HEAD")) => {
                let is_metrics = path(request.path.unwrap_or_default()) == "/metrics";
                let asked = if is_metrics { HttpRequest::Metrics } else { HttpRequest::NOT_FOUND };
                (asked, method == "GET")
            }
            _ => (HttpRequest::OTHER_METHOD, true),
        }),
    }
}

/// The path of a target, which may be a whole address (RFC 9112 section 3.2.2).
fn path(target: &str) -> &str {
    let address = target.split_once("://").filter(|_| !target.starts_with('/'));
    let target = match address {
        Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/"),
        None => target,
    };
    target.split('?').next().unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_taken_once_its_head_is_complete() {
        let whole = b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
        assert_eq!(parse(whole), Some((HttpRequest::Metrics, true)));
        for (text, request) in [
            ("GET / HTTP/1.1\r\n\r\n", (HttpRequest::NOT_FOUND, true)),
            ("HEAD / HTTP/1.1\r\n\r\n", (HttpRequest::NOT_FOUND, false)),
            ("HEAD /metrics HTTP/1.1\r\n\r\n", (HttpRequest::Metrics, false)),
            (
                "GET http://node:9469/metrics?a=http://b HTTP/1.1\r\n\r\n",
                (HttpRequest::Metrics, true),
            ),
            ("GET http://node:9469 HTTP/1.1\r\n\r\n", (HttpRequest::NOT_FOUND, true)),
            ("GET http://node/x/metrics HTTP/1.1\r\n\r\n", (HttpRequest::NOT_FOUND, true)),
            ("GET /metrics?a=http://b/x HTTP/1.1\r\n\r\n", (HttpRequest::Metrics, true)),
            ("POST /metrics HTTP/1.1\r\n\r\n", (HttpRequest::OTHER_METHOD, true)),
            ("GET /metrics\r\n\r\n", (HttpRequest::WRONG, true)),
            ("\x16\x03\x01\x02", (HttpRequest::WRONG, true)),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(request), "{text}");
        }
        let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Some((HttpRequest::TOO_LONG, true)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
