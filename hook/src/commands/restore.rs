//! `hostport restore`: the kernel as the journal has it.

use hostport_nft::Restored;

use crate::cli::RulesetArguments;
use crate::commands::{CommandError, print};
use crate::context::Context;
use crate::reconcile::restore::{counts, restore};

/// Restores, and prints what changed.
pub fn run(ruleset: &RulesetArguments, anew: bool, context: &Context) -> Result<(), CommandError> {
    let restored = restore(ruleset, anew, context)?;
    print(&summary(&restored))
}

/// How many changes of a kind are told one by one.
const MOST: usize = 100;

fn summary(restored: &Restored) -> String {
    let mut text = String::new();
    for family in &restored.tables {
        text.push_str(&format!("made the table {family} anew\n"));
    }
    for (what, changed) in [("removed", &restored.removed), ("restored", &restored.added)] {
        for published in changed.iter().take(MOST) {
            text.push_str(&format!("{what} {}{}\n", published.mapping, of(published)));
        }
        if changed.len() > MOST {
            text.push_str(&format!("{what} {} more\n", changed.len() - MOST));
        }
    }
    if restored.others > 0 {
        let s = if restored.others == 1 { "" } else { "s" };
        text.push_str(&format!("mended {} other element{s}\n", restored.others));
    }
    text.push_str(&format!("{}\n", counts(restored)));
    text
}

fn of(published: &hostport_nft::Published) -> String {
    published.owner.as_ref().map_or(String::new(), |owner| format!(" of {owner}"))
}
