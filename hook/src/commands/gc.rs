//! `hostport gc`: what dead containers left behind.

use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::output::count;
use crate::reconcile::gc::{Garbage, collect};
use crate::reconcile::nft_delete;
use crate::request::names::Called;

/// Withdraws the ports of dead owners and removes their entries; says what it did, or would do.
pub fn run(dry_run: bool, context: &Context) -> Result<(), CommandError> {
    let did = if dry_run { "would withdraw" } else { "withdrew" };
    let mut text = String::new();
    let dead = collect(context, &context.table, dry_run, |garbage| {
        match garbage {
        Garbage::Left(owner, names, mapping) => {
            text.push_str(&format!("{did} {mapping} of {}\n", Called(&owner, &names)));
        }
        Garbage::Unknown(there) => text.push_str(&format!(
            "kept {} of {}, which is not in the journal; once it has ended, remove the port with: {}\n",
            there.mapping,
            there.owner.as_ref().map_or("nobody", |owner| owner.as_str()),
            nft_delete(&context.table, there.mapping.host()),
        )),
    }
    });
    if let Ok(dead) = dead {
        text.push_str(&format!("{}\n", count(dead, "dead container")));
    }
    // What was done is printed, also where the rest fails.
    print(&text)?;
    dead?;
    Ok(())
}
