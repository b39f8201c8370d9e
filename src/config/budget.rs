//! How much memory the process may use, and which part of it each layer gets.
//!
//! What a layer does with its share is its own matter; here is only arithmetic and the reading of
//! the limit.

use std::fs;
use std::path::Path;

/// Of what the machine or the container has, the part that `memory.limit = "auto"` takes.
const AUTO_PERCENT: u64 = 80;

const INGEST_PERCENT: u64 = 15;
const LIVE_PERCENT: u64 = 20;
const QUERY_PERCENT: u64 = 25;
const STORAGE_PERCENT: u64 = 20;

/// Taken where neither a cgroup nor `/proc/meminfo` says how much memory there is.
const UNKNOWN_MACHINE_BYTES: u64 = 1 << 30;

/// Shares of the one memory limit, in bytes.
///
/// Their sum is 80 % of the limit: the rest is for what nobody accounts (code, stacks, the
/// allocator's slack).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What the process as a whole stays under.
    pub limit: u64,
    /// Requests between the wire and the WAL.
    pub ingest: u64,
    /// Traces that are in no block yet.
    pub live: u64,
    /// Running queries and their answers.
    pub query: u64,
    /// The storage engine, caches, and blocks that are being written.
    pub storage: u64,
}

impl Budget {
    /// Splits `limit` bytes.
    pub const fn of(limit: u64) -> Budget {
        Budget {
            limit,
            ingest: percent(limit, INGEST_PERCENT),
            live: percent(limit, LIVE_PERCENT),
            query: percent(limit, QUERY_PERCENT),
            storage: percent(limit, STORAGE_PERCENT),
        }
    }
}

/// Does not overflow: a limit is a size of memory, and a remainder below 100 is lost.
const fn percent(whole: u64, percent: u64) -> u64 {
    whole / 100 * percent
}

/// The limit that `memory.limit = "auto"` stands for on this machine.
pub fn auto_limit() -> u64 {
    percent(machine_bytes(Path::new("/")), AUTO_PERCENT)
}

/// The smallest of the cgroup limits that hold for this process, and the RAM.
fn machine_bytes(root: &Path) -> u64 {
    let memory = [ram(root), cgroup_v2(root), cgroup_v1(root)];
    memory.into_iter().flatten().min().unwrap_or(UNKNOWN_MACHINE_BYTES)
}

fn ram(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn cgroup_v2(root: &Path) -> Option<u64> {
    let own = own_cgroup(root, |line| line.strip_prefix("0::"));
    smallest_limit(&root.join("sys/fs/cgroup"), &own, "memory.max")
}

fn cgroup_v1(root: &Path) -> Option<u64> {
    let own = own_cgroup(root, |line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == "memory").then_some(path)
    });
    smallest_limit(&root.join("sys/fs/cgroup/memory"), &own, "memory.limit_in_bytes")
}

/// The cgroup of this process, relative to the mount; empty if unknown.
fn own_cgroup(root: &Path, path_of: impl Fn(&str) -> Option<&str>) -> String {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    groups.lines().find_map(path_of).unwrap_or_default().trim_start_matches('/').to_owned()
}

/// The smallest limit from the process's own cgroup up to the mount.
///
/// In a container the own path may be the host's, which is not visible: then the mount itself has
/// the limit.
fn smallest_limit(mount: &Path, own: &str, file: &str) -> Option<u64> {
    let limit = |group: &Path| -> Option<u64> {
        fs::read_to_string(mount.join(group).join(file)).ok()?.trim().parse().ok()
    };
    Path::new(own).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_as_large_as_its_smallest_limit() {
        let meminfo = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:  4194304 kB\n");
        let v2 = ("proc/self/cgroup", "0::/pods/own\n");
        let v1 = ("proc/self/cgroup", "9:cpu:/x\n4:hugetlb,memory:/docker/abc\n");
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: &[(&str, Files<'_>, u64)] = &[
            ("nothing known", &[], UNKNOWN_MACHINE_BYTES),
            ("RAM only", &[meminfo], 4 << 30),
            ("no limit", &[meminfo, v2, ("sys/fs/cgroup/pods/own/memory.max", "max\n")], 4 << 30),
            (
                "own",
                &[meminfo, v2, ("sys/fs/cgroup/pods/own/memory.max", "536870912\n")],
                512 << 20,
            ),
            ("parent", &[meminfo, v2, ("sys/fs/cgroup/pods/memory.max", "1048576\n")], 1 << 20),
            ("namespace", &[meminfo, v2, ("sys/fs/cgroup/memory.max", "2097152\n")], 2 << 20),
            (
                "version 1",
                &[meminfo, v1, ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "4096\n")],
                4096,
            ),
            (
                "version 1 in a container",
                &[meminfo, v1, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "8192\n")],
                8192,
            ),
            (
                "version 1 without a limit",
                &[
                    meminfo,
                    v1,
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
                ],
                4 << 30,
            ),
        ];
        for (name, files, bytes) in cases {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in *files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(machine_bytes(root.path()), *bytes, "{name}");
        }
    }

    #[test]
    fn shares_leave_a_fifth_for_what_nobody_accounts() {
        let budget = Budget::of(1000);
        let Budget { limit, ingest, live, query, storage } = budget;
        assert_eq!((limit, ingest, live, query, storage), (1000, 150, 200, 250, 200));
        assert!(Budget::of(u64::MAX).query > 0, "no overflow");
    }
}
