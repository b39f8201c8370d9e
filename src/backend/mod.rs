//! Where blocks lie: today a local directory in Tempo's layout.
//!
//! ```text
//! <root>/<tenant>/<block>/data.parquet  bloom-0 …  index  meta.json
//! ```
//! A block appears whole or not at all: it is built and synced in a staging directory beside the root, then renamed.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;

use crate::model::{BlockId, TenantId};

/// Names of the files of a block.
pub const DATA: &str = "data.parquet";
pub const META: &str = "meta.json";
pub const INDEX: &str = "index";

/// Why a file or directory cannot be used.
#[derive(Debug, Error)]
#[error("{action} {path}")]
pub struct BackendError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Blocks in a local directory.
#[derive(Clone, Debug)]
pub struct Local {
    root: PathBuf,
    staging: PathBuf,
}

/// A block that is being written: no reader sees it.
pub struct Staged {
    directory: PathBuf,
    target: PathBuf,
}

fn on<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T, BackendError> {
    result.map_err(|source| BackendError { action, path: path.to_owned(), source })
}

impl BackendError {
    /// Whether there is just nothing at that place.
    pub fn is_absent(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl Local {
    /// Opens `root`, making it if needed. What an earlier process left half-written in `staging` is removed.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn open(root: PathBuf, staging: PathBuf) -> Result<Local, BackendError> {
        on("create directory", &root, fs::create_dir_all(&root))?;
        if staging.exists() {
            on("empty directory", &staging, fs::remove_dir_all(&staging))?;
        }
        on("create directory", &staging, fs::create_dir_all(&staging))?;
        Ok(Local { root, staging })
    }

    /// The tenants that have a directory.
    pub fn tenants(&self) -> Result<Vec<TenantId>, BackendError> {
        Ok(names(&self.root)?.iter().filter_map(|name| TenantId::parse(name).ok()).collect())
    }

    /// The blocks of a tenant, whole or not.
    pub fn blocks(&self, tenant: &TenantId) -> Result<Vec<BlockId>, BackendError> {
        let directory = self.root.join(tenant.as_str());
        Ok(names(&directory)?.iter().filter_map(|name| BlockId::parse(name)).collect())
    }

    fn path(&self, tenant: &TenantId, block: BlockId, file: &str) -> PathBuf {
        self.root.join(tenant.as_str()).join(block.to_string()).join(file)
    }

    /// A whole small file of a block.
    pub fn read(
        &self,
        tenant: &TenantId,
        block: BlockId,
        file: &str,
    ) -> Result<Bytes, BackendError> {
        let path = self.path(tenant, block, file);
        on("read", &path, fs::read(&path)).map(Bytes::from)
    }

    /// Ranges of a file of a block, in the order asked for; neighbouring ones are read at once.
    pub fn read_ranges(
        &self,
        tenant: &TenantId,
        block: BlockId,
        file: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, BackendError> {
        let path = self.path(tenant, block, file);
        let file = on("open", &path, File::open(&path))?;
        let mut order: Vec<&Range<u64>> = ranges.iter().collect();
        order.sort_unstable_by_key(|range| range.start);
        let mut runs: Vec<(Range<u64>, Bytes)> = Vec::new();
        for run in coalesce(&order) {
            let mut bytes = vec![0; usize::try_from(run.end - run.start).unwrap_or(usize::MAX)];
            on("read", &path, file.read_exact_at(&mut bytes, run.start))?;
            runs.push((run, bytes.into()));
        }
        let part = |range: &Range<u64>| {
            let at = runs.partition_point(|(run, _)| run.start <= range.start);
            let (run, bytes) = at.checked_sub(1).and_then(|at| runs.get(at))?;
            let from = usize::try_from(range.start - run.start).ok()?;
            let to = usize::try_from(range.end - run.start).ok()?;
            (to <= bytes.len()).then(|| bytes.slice(from..to))
        };
        Ok(ranges.iter().map(|range| part(range).unwrap_or_default()).collect())
    }

    /// A place to write a block in.
    pub fn stage(&self, tenant: &TenantId, block: BlockId) -> Result<Staged, BackendError> {
        let directory = self.staging.join(block.to_string());
        on("create directory", &directory, fs::create_dir_all(&directory))?;
        Ok(Staged { directory, target: self.root.join(tenant.as_str()).join(block.to_string()) })
    }

    /// Removes a block. The commit point goes first, so that a crash leaves no block without data.
    pub fn remove(&self, tenant: &TenantId, block: BlockId) -> Result<(), BackendError> {
        let directory = self.root.join(tenant.as_str()).join(block.to_string());
        let meta = directory.join(META);
        match fs::remove_file(&meta) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                on("remove", &meta, Err(error))?
            }
            _ => {}
        }
        on("remove directory", &directory, fs::remove_dir_all(&directory))
    }

    /// Whether a block was committed.
    pub fn exists(&self, tenant: &TenantId, block: BlockId) -> bool {
        self.path(tenant, block, META).exists()
    }
}

/// Reads up to this gap of unwanted bytes cost less than another read.
const GAP: u64 = 16 << 10;

fn coalesce(sorted: &[&Range<u64>]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match runs.last_mut() {
            Some(run) if range.start <= run.end + GAP => run.end = run.end.max(range.end),
            _ => runs.push((*range).clone()),
        }
    }
    runs
}

fn names(directory: &Path) -> Result<Vec<String>, BackendError> {
    let mut names = Vec::new();
    for entry in on("list", directory, fs::read_dir(directory))? {
        let entry = on("list", directory, entry)?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

impl Staged {
    /// Creates a file of the block.
    pub fn create(&self, name: &str) -> Result<File, BackendError> {
        let path = self.directory.join(name);
        on("create", &path, File::create(&path))
    }

    /// A path beside the block's files, for something that is not part of it.
    pub fn scratch(&self) -> PathBuf {
        self.directory.with_extension("sst")
    }

    /// Writes a whole file and makes it durable.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BackendError> {
        let path = self.directory.join(name);
        let write = || {
            let file = File::create(&path)?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()
        };
        on("write", &path, write())
    }

    /// Makes the block visible, for good: when this returns, it survives a power loss.
    pub fn commit(self) -> Result<(), BackendError> {
        let parent = self.target.parent().unwrap_or(&self.target).to_owned();
        let sync =
            |path: &Path| on("sync", path, File::open(path).and_then(|file| file.sync_all()));
        sync(&self.directory)?;
        if !parent.exists() {
            on("create directory", &parent, fs::create_dir_all(&parent))?;
            sync(parent.parent().unwrap_or(&parent))?;
        }
        on("rename into place", &self.target, fs::rename(&self.directory, &self.target))?;
        sync(&parent)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "what tests write is small")]
mod tests {
    use super::*;

    #[test]
    fn blocks_appear_whole_and_ranges_come_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::open(directory.path().join("blocks"), directory.path().join("staging"));
        let local = local.unwrap();
        let (tenant, block) = (TenantId::single(), BlockId::random());
        let staged = local.stage(&tenant, block).unwrap();
        let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        staged.write(DATA, &data).unwrap();
        staged.write(META, b"{}").unwrap();
        assert!(!local.exists(&tenant, block));
        staged.commit().unwrap();
        assert!(local.exists(&tenant, block));
        assert_eq!(local.tenants().unwrap(), std::slice::from_ref(&tenant));
        assert_eq!(local.blocks(&tenant).unwrap(), [block]);
        let ranges = [90_000..90_010, 5..9, 0..3, 40_000..40_001];
        let read = local.read_ranges(&tenant, block, DATA, &ranges).unwrap();
        for (range, bytes) in ranges.iter().zip(read) {
            assert_eq!(bytes, data[range.start as usize..range.end as usize]);
        }
        let beyond = 99_999..100_001;
        assert!(local.read_ranges(&tenant, block, DATA, std::slice::from_ref(&beyond)).is_err());
        local.remove(&tenant, block).unwrap();
        assert!(local.read(&tenant, block, META).unwrap_err().is_absent());
    }

    #[test]
    fn what_was_not_committed_is_gone_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let paths = (directory.path().join("blocks"), directory.path().join("staging"));
        let local = Local::open(paths.0.clone(), paths.1.clone()).unwrap();
        local.stage(&TenantId::single(), BlockId::random()).unwrap().write(DATA, b"x").unwrap();
        let local = Local::open(paths.0, paths.1.clone()).unwrap();
        assert!(local.tenants().unwrap().is_empty());
        assert!(names(&paths.1).unwrap().is_empty());
    }
}
