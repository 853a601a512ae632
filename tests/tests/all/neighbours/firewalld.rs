//! firewalld, running and reloaded: it accepts what was translated. (reloads.rs tests that a reload removes nothing
//! of ours.)

use hostport_tests::firewalld::Firewalld;

use hostport_tests::lab::{NODE4, tcp};

use super::ground::{Ground, ORDERS, Order};

/// Its tables are not changed by hand: it writes them again.
#[test]
fn field_16_firewallds_panic_mode_is_switched_off_by_its_own_command() {
    let ground = Ground::new();
    ground.bundle.start(ground.node());
    let firewalld = Firewalld::start(ground.node());
    firewalld.call("--panic-on").expect_success();
    assert!(tcp(ground.lab.client(), (NODE4, 9000)).is_err());
    let findings = ground.findings();
    assert_eq!(findings[0]["severity"], "broken", "{findings:#?}");
    for finding in &findings {
        assert_eq!(finding["fix"], "firewall-cmd --panic-off", "{findings:#?}");
    }
    firewalld.call("--panic-off").expect_success();
    ground.assert_web_is_reached();
    ground.assert_sound();
}

#[test]
fn firewalld_accepts_host_ports_in_either_order_and_after_a_reload() {
    for order in ORDERS {
        let ground = Ground::new();
        if order == Order::WeFirst {
            ground.bundle.start(ground.node());
        }
        let firewalld = Firewalld::start(ground.node());
        if order == Order::TheyFirst {
            ground.bundle.start(ground.node());
        }
        ground.assert_web_is_reached();
        ground.assert_sound();
        for reload in ["--reload", "--complete-reload"] {
            firewalld.call(reload).expect_success();
            ground.assert_web_is_reached();
            ground.assert_sound();
        }
        ground.bundle.stop(ground.node());
    }
}
