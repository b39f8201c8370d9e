//! RocksDB: the only place that knows it. Records of the log by epoch, the trace index, and small state.
//!
//! Each epoch of the log is a column family of its own: dropping one frees its files whole, and an epoch that lives
//! shortly is never written anywhere but to RocksDB's own log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, IngestExternalFileOptions, IteratorMode, Options, ReadOptions, SliceTransform,
    SstFileWriter, WriteBatch, WriteOptions,
};
use thiserror::Error;

const STATE: &str = "state";
const INDEX: &str = "index";
const EPOCH: &str = "wal-";

/// Memtable of an epoch: larger than most epochs, which then are never sorted into files.
const EPOCH_MEMTABLE: usize = 32 << 20;
/// Bits a key in the index's bloom filters: 1 % false positives.
const INDEX_BLOOM_BITS: f64 = 10.0;
/// The end of an index key by which the entries of one prefix differ.
pub const INDEX_SUFFIX: usize = 16;
/// Files kept open at most.
const OPEN_FILES: i32 = 256;

/// Why the embedded store failed. The message is RocksDB's own.
#[derive(Debug, Error)]
pub enum KvError {
    #[error("open the embedded store in {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: rocksdb::Error,
    },
    #[error("{action} in the embedded store")]
    Run {
        action: &'static str,
        #[source]
        source: rocksdb::Error,
    },
}

/// A key, or the end of one, and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// The embedded store. All methods may be called from any thread.
pub struct Kv {
    db: DB,
    cache: Cache,
    epochs: Mutex<BTreeSet<u64>>,
}

fn run<T>(action: &'static str, result: Result<T, rocksdb::Error>) -> Result<T, KvError> {
    result.map_err(|source| KvError::Run { action, source })
}

impl Kv {
    /// Opens or creates the store in a directory; it keeps at most `cache_bytes` of blocks in memory.
    ///
    /// # Errors
    /// When the directory cannot be used, or belongs to something else.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Kv, KvError> {
        let cache = Cache::new_lru_cache(cache_bytes);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_open_files(OPEN_FILES);
        options.set_max_total_wal_size(4 * EPOCH_MEMTABLE as u64);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        // A damaged record costs itself, not those behind it: each of ours stands alone and has a checksum.
        options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
        let families = DB::list_cf(&options, path).unwrap_or_default();
        let mut descriptors = vec![
            ColumnFamilyDescriptor::new("default", small()),
            ColumnFamilyDescriptor::new(STATE, small()),
            ColumnFamilyDescriptor::new(INDEX, index(&cache)),
        ];
        let number = |name: &String| name.strip_prefix(EPOCH)?.parse().ok();
        let epochs: BTreeSet<u64> = families.iter().filter_map(number).collect();
        let name = |number: &u64| format!("{EPOCH}{number}");
        descriptors.extend(epochs.iter().map(|of| ColumnFamilyDescriptor::new(name(of), epoch())));
        let db = DB::open_cf_descriptors(&options, path, descriptors)
            .map_err(|source| KvError::Open { path: path.to_owned(), source })?;
        Ok(Kv { db, cache, epochs: Mutex::new(epochs) })
    }

    fn family(&self, name: &str) -> Option<Arc<BoundColumnFamily<'_>>> {
        self.db.cf_handle(name)
    }

    fn own(&self, name: &'static str) -> Arc<BoundColumnFamily<'_>> {
        self.family(name).expect("opened with this column family, which is never dropped")
    }

    /// The epochs that exist, in order.
    pub fn epochs(&self) -> Vec<u64> {
        self.known().iter().copied().collect()
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn create_epoch(&self, number: u64) -> Result<(), KvError> {
        let name = format!("{EPOCH}{number}");
        run("create an epoch of the log", self.db.create_cf(name, &epoch()))?;
        self.known().insert(number);
        Ok(())
    }

    /// Drops an epoch with all its records. One that is gone already is fine.
    pub fn drop_epoch(&self, number: u64) -> Result<(), KvError> {
        if !self.known().remove(&number) {
            return Ok(());
        }
        let name = format!("{EPOCH}{number}");
        run("drop an epoch of the log", self.db.drop_cf(&name))?;
        // State that is only in memory would keep the log files of the epoch alive.
        run("flush state", self.db.flush_cf(&self.own(STATE)))
    }

    /// Appends records to an epoch, as one; durable when it returns if `sync`.
    pub fn append(
        &self,
        number: u64,
        records: &[(u64, Vec<u8>)],
        sync: bool,
    ) -> Result<(), KvError> {
        let Some(family) = self.family(&format!("{EPOCH}{number}")) else { return Ok(()) };
        let mut batch = WriteBatch::default();
        for (seq, record) in records {
            batch.put_cf(&family, seq.to_be_bytes(), record);
        }
        run("append to the log", self.db.write_opt(batch, &options(sync)))
    }

    /// Makes all that was appended so far durable.
    pub fn sync(&self) -> Result<(), KvError> {
        run("sync the log", self.db.flush_wal(true))
    }

    /// Calls `each` with the records of an epoch in order, until it returns false.
    pub fn records(
        &self,
        number: u64,
        mut each: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<(), KvError> {
        let Some(family) = self.family(&format!("{EPOCH}{number}")) else { return Ok(()) };
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        let mut iterator = self.db.raw_iterator_cf_opt(&family, read);
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            if let Ok(seq) = key.try_into()
                && !each(u64::from_be_bytes(seq), value)
            {
                return Ok(());
            }
            iterator.next();
        }
        run("read the log", iterator.status())
    }

    /// First and last record number of an epoch.
    pub fn bounds(&self, number: u64) -> Option<(u64, u64)> {
        let family = self.family(&format!("{EPOCH}{number}"))?;
        let mut iterator = self.db.raw_iterator_cf(&family);
        let seq = |key: Option<&[u8]>| Some(u64::from_be_bytes(key?.try_into().ok()?));
        iterator.seek_to_first();
        let first = seq(iterator.key())?;
        iterator.seek_to_last();
        Some((first, seq(iterator.key())?))
    }

    /// Writes state durably; a value of none removes a key.
    pub fn put_state(&self, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), KvError> {
        let family = self.own(STATE);
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            match value {
                Some(value) => batch.put_cf(&family, key, value),
                None => batch.delete_cf(&family, key),
            }
        }
        run("write state", self.db.write_opt(batch, &options(true)))
    }

    /// All state whose key begins with a prefix.
    pub fn state(&self, prefix: &[u8]) -> Result<Vec<Pair>, KvError> {
        let family = self.own(STATE);
        let from = IteratorMode::From(prefix, rocksdb::Direction::Forward);
        let mut found = Vec::new();
        for item in self.db.iterator_cf(&family, from) {
            let (key, value) = run("read state", item)?;
            if !key.starts_with(prefix) {
                break;
            }
            found.push((key.into(), value.into()));
        }
        Ok(found)
    }

    /// Adds index entries, whose keys rise, by way of a sorted file that is written to `scratch` first.
    pub fn ingest_index(
        &self,
        scratch: &Path,
        entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> Result<(), KvError> {
        let options = index(&self.cache);
        let mut writer = SstFileWriter::create(&options);
        run("write an index file", writer.open(scratch))?;
        let mut any = false;
        for (key, value) in entries {
            run("write an index file", writer.put(key, value))?;
            any = true;
        }
        if !any {
            return Ok(());
        }
        run("write an index file", writer.finish())?;
        let mut ingest = IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        let family = self.own(INDEX);
        run(
            "take in an index file",
            self.db.ingest_external_file_cf_opts(&family, &ingest, vec![scratch]),
        )
    }

    /// The index entries whose key is a prefix and [`INDEX_SUFFIX`] bytes more: these bytes, and the value.
    pub fn index(&self, prefix: &[u8]) -> Result<Vec<Pair>, KvError> {
        let family = self.own(INDEX);
        let mut read = ReadOptions::default();
        read.set_prefix_same_as_start(true);
        let mut iterator = self.db.raw_iterator_cf_opt(&family, read);
        iterator.seek([prefix, &[0; INDEX_SUFFIX]].concat());
        let mut found = Vec::new();
        while let Some((key, value)) = iterator.item() {
            match key.strip_prefix(prefix) {
                Some(rest) => found.push((rest.to_vec(), value.to_vec())),
                None => break,
            }
            iterator.next();
        }
        run("read the index", iterator.status())?;
        Ok(found)
    }

    /// Bytes on disk of the log, and of the rest.
    pub fn disk_bytes(&self) -> (u64, u64) {
        let size = |family: &Arc<BoundColumnFamily<'_>>, name| {
            self.db.property_int_value_cf(family, name).ok().flatten().unwrap_or_default()
        };
        let mut log = 0;
        for number in self.epochs() {
            if let Some(family) = self.family(&format!("{EPOCH}{number}")) {
                log += size(&family, "rocksdb.total-sst-files-size");
                log += size(&family, "rocksdb.cur-size-all-mem-tables");
            }
        }
        (log, size(&self.own(INDEX), "rocksdb.total-sst-files-size"))
    }
}

fn options(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}

fn small() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(1 << 20);
    options
}

fn epoch() -> Options {
    let mut options = Options::default();
    options.set_write_buffer_size(EPOCH_MEMTABLE);
    options.set_disable_auto_compactions(true);
    // Records are compressed already.
    options.set_compression_type(DBCompressionType::None);
    options
}

fn index(cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(INDEX_BLOOM_BITS, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_format_version(6);
    table.set_whole_key_filtering(false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    let cut: fn(&[u8]) -> &[u8] =
        |key| key.get(..key.len().saturating_sub(INDEX_SUFFIX)).unwrap_or(key);
    options.set_prefix_extractor(SliceTransform::create("without-suffix", cut, None));
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(1 << 20);
    options
}
