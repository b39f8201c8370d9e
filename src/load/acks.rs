//! Which batches were acknowledged, in memory and in a file that outlives the run.
//!
//! The file is text. The first line, `seed 7 traces-per-batch 42`, says how batches map to traces; each further
//! line is an acknowledged batch: its number and how many traces it held. A line without an end does not count.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::load::LoadError;

/// Some traces in a row that are sent as one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub number: u64,
    /// Fewer than usual in the last one.
    pub traces: u64,
}

/// Acknowledged batches and what is needed to name their spans.
#[derive(Debug, PartialEq, Eq)]
pub struct Acks {
    pub seed: u64,
    pub traces_per_batch: u64,
    pub batches: Vec<Batch>,
}

/// Appends to an ack file; shared by all senders.
#[derive(Debug)]
pub struct AckFile {
    file: Mutex<File>,
}

impl Acks {
    /// # Errors
    /// When the file cannot be read or was not written by [`AckFile`].
    pub fn read(path: &Path) -> Result<Acks, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|source| fault(path, source))?;
        Acks::parse(&text).ok_or_else(|| LoadError::NoAckFile { path: path.to_owned() })
    }

    fn parse(text: &str) -> Option<Acks> {
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let header = lines.next()?.strip_prefix("seed ")?;
        let (seed, traces_per_batch) = header.split_once(" traces-per-batch ")?;
        let seed = seed.parse().ok()?;
        let traces_per_batch = traces_per_batch.parse().ok()?;
        let mut batches = Vec::new();
        for line in lines {
            let (number, traces) = line.split_once(' ')?;
            let batch = Batch { number: number.parse().ok()?, traces: traces.parse().ok()? };
            // The traces' numbers must be such.
            batch.number.checked_add(1)?.checked_mul(traces_per_batch)?;
            if batch.traces > traces_per_batch {
                return None;
            }
            batches.push(batch);
        }
        Some(Acks { seed, traces_per_batch, batches })
    }

    /// The first number that no acknowledged batch has or precedes.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.batches.iter().map(|batch| batch.number + 1).max().unwrap_or(0)
    }
}

impl AckFile {
    /// Opens a file to append to, and says at which batch to go on: an earlier run's numbers are not used twice.
    ///
    /// # Errors
    /// When the file cannot be written, or belongs to other traffic.
    pub fn open(
        path: &Path,
        seed: u64,
        traces_per_batch: u64,
    ) -> Result<(AckFile, u64), LoadError> {
        let earlier = match Acks::read(path) {
            Ok(acks) if acks.seed == seed && acks.traces_per_batch == traces_per_batch => acks,
            Ok(_) => return Err(LoadError::OtherAckFile { path: path.to_owned() }),
            Err(LoadError::AckFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let header = format!("seed {seed} traces-per-batch {traces_per_batch}\n");
                std::fs::write(path, header).map_err(|source| fault(path, source))?;
                Acks { seed, traces_per_batch, batches: Vec::new() }
            }
            Err(error) => return Err(error),
        };
        let file = OpenOptions::new().append(true).open(path);
        let file = Mutex::new(file.map_err(|source| fault(path, source))?);
        Ok((AckFile { file }, earlier.next_number()))
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn append(&self, batch: Batch) -> std::io::Result<()> {
        let line = format!("{} {}\n", batch.number, batch.traces);
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

fn fault(path: &Path, source: std::io::Error) -> LoadError {
    LoadError::AckFile { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_written_and_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        let (file, next) = AckFile::open(&path, 7, 42).unwrap();
        assert_eq!(next, 0);
        let batches = vec![Batch { number: 3, traces: 42 }, Batch { number: 1, traces: 9 }];
        batches.iter().for_each(|batch| file.append(*batch).unwrap());
        assert_eq!(Acks::read(&path).unwrap(), Acks { seed: 7, traces_per_batch: 42, batches });
        assert_eq!(AckFile::open(&path, 7, 42).unwrap().1, 4);
        assert!(matches!(AckFile::open(&path, 8, 42), Err(LoadError::OtherAckFile { .. })));
    }

    #[test]
    fn a_torn_line_does_not_count_and_other_files_are_refused() {
        let acks = Acks::parse("seed 1 traces-per-batch 42\n0 42\n1 4").unwrap();
        assert_eq!(acks.batches, [Batch { number: 0, traces: 42 }]);
        for wrong in [
            "",
            "seed 1\n",
            "hello\n",
            "seed 1 traces-per-batch 42\nx\n",
            "seed 1 traces-per-batch 2\n0 3\n",
        ] {
            assert_eq!(Acks::parse(wrong), None, "{wrong:?}");
        }
    }
}
