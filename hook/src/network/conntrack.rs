//! How full the table of connection tracking is: `Documentation/networking/nf_conntrack-sysctl.rst`.

use std::fs;
use std::path::Path;
use std::str::FromStr;

/// The connections of this network namespace, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// net.netfilter.nf_conntrack_count
    pub count: u64,
    /// net.netfilter.nf_conntrack_max, which is the whole machine's.
    pub max: u64,
    /// Packets of new connections that were dropped, most often since the table was full; none if the kernel does
    /// not count them (CONFIG_NF_CONNTRACK_PROCFS).
    pub dropped: Option<u64>,
}

impl Usage {
    /// None where connections are not tracked yet, or without a limit.
    pub fn read() -> Option<Self> {
        Self::read_in(Path::new("/proc"))
    }

    fn read_in(proc: &Path) -> Option<Self> {
        let text = |file: &str| fs::read_to_string(proc.join(file)).ok();
        let number = |name: &str| {
            let text = text(&format!("sys/net/netfilter/nf_conntrack_{name}"))?;
            u64::from_str(text.trim()).ok()
        };
        let dropped = text("thread-self/net/stat/nf_conntrack").and_then(|text| dropped(&text));
        let (count, max) = (number("count")?, number("max").filter(|max| *max > 0)?);
        Some(Usage { count, max, dropped })
    }

    /// No more connections are tracked, so that the packets of new ones are dropped (`__nf_conntrack_alloc`).
    pub fn is_full(&self) -> bool {
        self.count >= self.max
    }

    /// Nine tenths are in use.
    pub fn is_nearly_full(&self) -> bool {
        self.count >= self.max - self.max / 10
    }
}

/// The sum of the column `drop`, which has a number of base 16 for each processor.
fn dropped(statistics: &str) -> Option<u64> {
    let mut lines = statistics.lines();
    let column = lines.next()?.split_ascii_whitespace().position(|name| name == "drop")?;
    let of_one = |line: &str| {
        let number = line.split_ascii_whitespace().nth(column)?;
        u64::from_str_radix(number, 16).ok()
    };
    Some(lines.filter_map(of_one).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the kernel's three files, or without the statistics.
    fn usage(name: &str, count: &str, max: &str, statistics: Option<&str>) -> Option<Usage> {
        let folder = format!("hostport-conntrack-{}-{name}", std::process::id());
        let proc = std::env::temp_dir().join(folder);
        let (sysctl, stat) = (proc.join("sys/net/netfilter"), proc.join("thread-self/net/stat"));
        fs::create_dir_all(&sysctl).and(fs::create_dir_all(&stat)).unwrap();
        fs::write(sysctl.join("nf_conntrack_count"), count).unwrap();
        fs::write(sysctl.join("nf_conntrack_max"), max).unwrap();
        if let Some(statistics) = statistics {
            fs::write(stat.join("nf_conntrack"), statistics).unwrap();
        }
        let usage = Usage::read_in(&proc);
        fs::remove_dir_all(proc).unwrap();
        usage
    }

    #[test]
    fn field_18_a_full_table_is_known_from_the_kernels_files() {
        let statistics = "entries  clashres found insert_failed drop early_drop\n\
            0000000a  00000000 00000000 00000000 0000000f 00000001\n\
            0000000a  00000000 00000000 00000000 00000001 00000001\n";
        let full = usage("full", "100\n", "100\n", Some(statistics)).unwrap();
        assert_eq!(full, Usage { count: 100, max: 100, dropped: Some(16) });
        assert!(full.is_full() && full.is_nearly_full());
        let nearly = usage("nearly", "90\n", "100\n", None).unwrap();
        assert_eq!(nearly, Usage { count: 90, max: 100, dropped: None });
        assert!(!nearly.is_full() && nearly.is_nearly_full());
        assert!(!usage("roomy", "89\n", "100\n", None).unwrap().is_nearly_full());
    }

    #[test]
    fn field_18_without_a_limit_or_a_table_none_is_full() {
        assert_eq!(usage("unlimited", "89\n", "0\n", None), None);
        assert_eq!(usage("nonsense", "-\n", "\n", Some("drop\nxyz\n")), None);
        assert_eq!(Usage::read_in(Path::new("/nonexistent")), None);
        assert_eq!(dropped("entries drop\n1\n\n1 2\n"), Some(2));
        assert_eq!(dropped("entries\n1\n"), None);
    }
}
