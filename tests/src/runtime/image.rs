//! An image of busybox, built here: tests have no registry.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::container::make_rootfs;
use super::{Scratch, run};

/// Writes an archive as `docker save` does: one layer, the root of [`super::Container`]. Its command
/// sleeps, as a pod's infrastructure container does.
pub(super) fn build(archive: &Path, name: &str) {
    let scratch = Scratch::new("image");
    let root = scratch.folder("root");
    make_rootfs(&root);
    let layer = scratch.path().join("layer.tar");
    tar(&layer, &root, &["."]);
    let sum = run(Command::new("sha256sum").arg(&layer)).expect_success();
    let sum = sum.stdout.split(' ').next().expect("a sum").to_owned();
    let configuration = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "600"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
        "history": [{"created_by": "a test"}],
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(scratch.path().join("config.json"), configuration.to_string()).unwrap();
    fs::write(scratch.path().join("manifest.json"), manifest.to_string()).unwrap();
    tar(archive, scratch.path(), &["manifest.json", "config.json", "layer.tar"]);
}

fn tar(archive: &Path, folder: &Path, names: &[&str]) {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--owner=0", "--group=0", "--file"]).arg(archive);
    tar.arg("--directory").arg(folder).args(names);
    run(&mut tar).expect_success();
}
