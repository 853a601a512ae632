//! What the kernel does not take of the ruleset.

use hostport_nft::TableOwner;

use crate::diagnose::{Finding, Inventory, Kind, Scope};

/// A part that the kernel does not know (ENOENT, EOPNOTSUPP) is in a module that is missing. A packet does not
/// mind where its table stands already.
pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let stands = |family| scope.packet.is_some() && inventory.state(family) == TableOwner::Ours;
    let unsupported = inventory.unsupported.iter();
    let unsupported = unsupported.filter(|part| scope.covers(part.family) && !stands(part.family));
    let finding = |part: &hostport_nft::Unsupported| {
        let fix = match part.modules.as_slice() {
            [] => format!("hostport show --table {} | nft --check --file -", inventory.table),
            modules => format!("modprobe --all {}", modules.join(" ")),
        };
        Finding::new(
            Kind::RulesetRefused,
            format!(
                "the kernel refuses {} of the table {} {}",
                part.part, part.family, inventory.table
            ),
            [format!("tried in a transaction that was not committed: {}", part.error)],
            fix,
        )
    };
    unsupported.map(finding).collect()
}

/// Where there is no nf_tables at all, nothing else can be looked at.
pub fn without_nf_tables() -> Finding {
    Finding::new(
        Kind::RulesetRefused,
        "this kernel has no nf_tables, so nothing can be published",
        ["it refuses every request for the ruleset"],
        "modprobe nf_tables",
    )
}
