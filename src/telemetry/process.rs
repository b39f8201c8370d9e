//! The process as the kernel sees it, under the names that every exporter uses for it.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Clock ticks per second in `/proc`: `USER_HZ`, which the kernel keeps at 100 for programs on all
/// its machines.
const TICKS_PER_SEC: f64 = 100.0;

/// Names of the metrics of [`render`], for the alias table.
pub(super) const CPU_SECONDS_TOTAL: &str = "process_cpu_seconds_total";
pub(super) const RESIDENT_MEMORY_BYTES: &str = "process_resident_memory_bytes";

/// Appends the `process_*` metrics in Prometheus text. What `/proc` does not say is left out.
pub(super) fn render(out: &mut String) {
    render_from(Path::new("/proc"), out);
}

fn render_from(proc: &Path, out: &mut String) {
    let read = |path: &str| fs::read_to_string(proc.join(path)).unwrap_or_default();
    let (stat, status) = (read("self/stat"), read("self/status"));
    let boot =
        read("stat").lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let started = boot.zip(ticks(&stat, 22)).map(|(boot, ticks): (f64, f64)| boot + ticks);
    let cpu = ticks(&stat, 14).zip(ticks(&stat, 15)).map(|(user, system)| user + system);
    let open_fds = fs::read_dir(proc.join("self/fd")).ok().map(Iterator::count);
    let max_fds = read("self/limits").lines().find_map(max_open_files);
    let metrics: [(&str, &str, &str, Option<f64>); 6] = [
        (CPU_SECONDS_TOTAL, "counter", "CPU time, user and system.", cpu),
        (RESIDENT_MEMORY_BYTES, "gauge", "Memory in RAM.", kib(&status, "VmRSS:")),
        ("process_virtual_memory_bytes", "gauge", "Address space.", kib(&status, "VmSize:")),
        ("process_start_time_seconds", "gauge", "Start, as Unix time.", started),
        ("process_open_fds", "gauge", "Open file descriptors.", open_fds.map(count)),
        ("process_max_fds", "gauge", "File descriptors that may be open.", max_fds),
    ];
    for (name, kind, help, value) in metrics {
        if let Some(value) = value {
            write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n")
                .expect("a String takes all");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a process has fewer files than 2^52")]
fn count(files: usize) -> f64 {
    files as f64
}

/// Field `number` of `/proc/self/stat`, counted from 1 as in proc(5), in seconds. The second may
/// hold spaces.
fn ticks(stat: &str, number: usize) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let ticks: f64 = behind_name.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()?;
    Some(ticks / TICKS_PER_SEC)
}

fn kib(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// The soft limit in a line of `/proc/self/limits`.
fn max_open_files(line: &str) -> Option<f64> {
    line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn proc_is_read() {
        let proc = tempfile::tempdir().unwrap();
        let files = [
            ("stat", "cpu 1 2\nbtime 1700000000\n"),
            (
                "self/stat",
                "7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1234 1000 10\n",
            ),
            ("self/status", "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t   1024 kB\n"),
            (
                "self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024  4096  files\n",
            ),
            ("self/fd/0", ""),
            ("self/fd/1", ""),
        ];
        for (path, text) in files {
            let path = proc.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut out = String::new();
        render_from(proc.path(), &mut out);
        let values: Vec<&str> =
            out.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
        expect![[r#"
            process_cpu_seconds_total 2
            process_resident_memory_bytes 1048576
            process_virtual_memory_bytes 2097152
            process_start_time_seconds 1700000012.34
            process_open_fds 2
            process_max_fds 1024"#]]
        .assert_eq(&values.join("\n"));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut out = String::new();
        render_from(Path::new("/nowhere"), &mut out);
        assert_eq!(out, "");
    }
}
