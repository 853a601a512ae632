//! What the containers of entries have now.

use hostport_nft::Gather;
use tracing::{debug, warn};

use super::entry::Entry;
use crate::network::present::{Onlooker, Present};

/// Finds the addresses that containers have now. What cannot be found does not change.
pub fn present() -> impl FnMut(&Entry) -> Option<Present> {
    let begin = || {
        let onlooker = Onlooker::new();
        onlooker.inspect_err(|error| warn!("{error}: containers' addresses are not followed")).ok()
    };
    let mut onlooker = None;
    move |entry| {
        let places = entry.places().gather();
        let known = entry.mappings.iter().map(|mapping| mapping.endpoint().ip).gather();
        let present = onlooker.get_or_insert_with(begin).as_mut()?.look(&places, &known);
        let called = entry.called();
        present
            .inspect_err(|error| debug!("cannot look at the addresses of {called}: {error}"))
            .ok()?
    }
}
