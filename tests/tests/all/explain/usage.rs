//! How it is called.

use hostport_tests::hook::hostport;
use hostport_tests::lab::Lab;

#[test]
fn wrong_usage_is_exit_status_2_with_a_hint() {
    let lab = Lab::new();
    for (arguments, says) in [
        (&[][..], "PORT[/PROTO]"),
        (&["0"], "0"),
        (&["65536"], "65536"),
        (&["http"], "http"),
        (&["80/icmp"], "icmp"),
        (&["80", "--from", "client"], "client"),
        (&["80", "--from", "192.0.2.2", "--to", "2001:db8::1"], "not of one IP family"),
        (&["80", "--to", "0.0.0.0"], "stands for any address"),
        (&["80", "--json", "--json"], "--json"),
        (&["80", "81"], "81"),
    ] {
        let said = hostport(lab.node(), &[&["explain"], arguments].concat());
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{said:#?}");
        assert!(said.stderr.contains(says), "{said:#?}");
        assert!(said.stderr.contains("--help"), "{said:#?}");
    }
}

#[test]
fn its_help_has_an_example() {
    let lab = Lab::new();
    let said = hostport(lab.node(), &["explain", "--help"]).expect_success();
    assert!(said.stdout.contains("hostport explain 9000"), "{said:#?}");
}
