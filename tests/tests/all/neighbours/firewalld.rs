//! firewalld, running and reloaded: it accepts what was translated. (reloads.rs tests that a reload removes nothing
//! of ours.)

use hostport_tests::firewalld::Firewalld;

use super::ground::{Ground, ORDERS, Order};

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
