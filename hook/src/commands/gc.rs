//! `hostport gc`: what dead containers left behind.

use hostport_nft::{HostPorts, Settings};

use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::reconcile::gc;

/// Withdraws the ports of dead owners and removes their entries; says what it did, or would do.
pub fn run(dry_run: bool, context: &Context) -> Result<(), CommandError> {
    let settings = Settings { table: context.table.clone(), ..Settings::default() };
    let mut host_ports = HostPorts::open(settings)?;
    let mut text = String::new();
    let done = gc::all(dry_run, &mut host_ports, context, &mut text);
    // What was done is printed, also where the rest fails.
    print(&text)?;
    done
}
