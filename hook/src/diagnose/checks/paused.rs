//! Containers that are paused: the kernel accepts connections for them, and nobody answers.

use hostport_nft::Mapping;

use crate::diagnose::{Finding, Inventory, Kind, Scope};
use crate::journal::{Entry, Freezers};
use crate::output::several;

pub fn find(inventory: &Inventory, scope: &Scope) -> Vec<Finding> {
    let freezers = Freezers::mounted();
    let is_paused =
        |entry: &&Entry| entry.process.as_ref().is_some_and(|process| freezers.freeze(process));
    let (paused, running): (Vec<&Entry>, Vec<_>) = scope.living(inventory).partition(is_paused);
    let finding = |entry: &&Entry| {
        // Another container of the pod may answer.
        let answered =
            |mapping: &&Mapping| running.iter().any(|entry| entry.mappings.contains(mapping));
        let mappings = entry.mappings.iter().filter(|mapping| !answered(mapping));
        let owner = scope.called(&entry.owner);
        mappings.clone().next()?;
        Some(Finding::new(
            Kind::ContainerPaused,
            format!("the container {owner} is paused, so nothing answers on its host ports"),
            [
                "its process is frozen, and the kernel goes on accepting connections for it"
                    .to_owned(),
                several(mappings),
            ],
            format!(
                "resume the container with its runtime, such as: podman unpause {}",
                entry.owner
            ),
        ))
    };
    paused.iter().filter_map(finding).collect()
}
