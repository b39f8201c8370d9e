//! Opening the store: the lock, what a crash left behind, the blocks that are there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;

use metrics::{counter, gauge};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};

use crate::backend::{BackendError, Local, META};
use crate::block::Meta;
use crate::cpu::Cpu;
use crate::kv::{Kv, KvError};
use crate::model::{BlockId, TenantId};
use crate::telemetry;
use crate::wal::{Wal, WalError};

use super::block::{Block, ReadError};
use super::head::Tenant;
use super::lookups::Lookups;
use super::state::{self, TenantState};
use super::{Inner, Options, Store, Sync, index, writer};

/// Requests that may wait for the log; more are told to try again.
const QUEUE: usize = 1024;
/// Groups that may be on their way from the log to the live segments.
const STEPS: usize = 2;

/// Why the store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(
        "{action} {path}; check that the directory exists and that this user may write to it (storage.path)"
    )]
    Directory {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is in use by another process ({holder}); stop it, or set another storage.path")]
    Locked { path: PathBuf, holder: String },
    #[error(
        "{path} was written by a newer release (format {found}, this one knows {known}); use that release, or another storage.path"
    )]
    Newer { path: PathBuf, found: String, known: String },
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

impl Store {
    /// Opens or creates a store. Appends may be made at once; queries wait for the replay of the log.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(options: Options, cpu: Cpu, upkeep: Cpu) -> Result<Store, OpenError> {
        let path = options.path.clone();
        let on = |action, result: io::Result<()>| {
            result.map_err(|source| OpenError::Directory { action, path: path.clone(), source })
        };
        on("create directory", fs::create_dir_all(&path))?;
        let held = lock(&path)?;
        let kv = Arc::new(Kv::open(&path.join("wal"), options.cache_bytes)?);
        check_format(&kv, &path)?;
        let backend = Local::open(path.join("blocks"), path.join("staging"))?;
        let states = recover(&kv, &backend)?;
        let tenants = load(&kv, &backend, &path)?;
        let least = states.values().map(|state| state.watermark).max().unwrap_or(0);
        let log = Wal::open(Arc::clone(&kv), least, options.sync == Sync::Always)?;
        let replay_below = log.next_seq();
        let inner = Arc::new(Inner {
            kv,
            backend,
            lookups: Lookups::new(options.cache_bytes),
            tenants: RwLock::new(tenants),
            states: Mutex::new(states),
            seals: AtomicU64::new(least),
            live_bytes: AtomicI64::new(0),
            request_bytes: AtomicU64::new(0),
            writing: Mutex::new(()),
            flush_wanted: Notify::new(),
            flush_is_wanted: AtomicBool::new(false),
            room: (Mutex::new(()), Condvar::new()),
            stopping: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            free_bytes: AtomicU64::new(0),
            ready: watch::Sender::new(false),
            live_traces: gauge!(telemetry::LIVE_TRACES, "tenant" => "all"),
            live_gauge: gauge!(telemetry::LIVE_BYTES, "tenant" => "all"),
            traces_created: counter!(telemetry::LIVE_TRACES_CREATED_TOTAL, "tenant" => "all"),
            options,
        });
        inner.look_at_disk();
        gauge!(telemetry::INGEST_QUEUE_CAPACITY_BATCHES).set(QUEUE as f64);
        let (asks, asked) = mpsc::channel(QUEUE);
        let (next, steps) = std::sync::mpsc::sync_channel(STEPS);
        let filler = Arc::clone(&inner);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::Thread)
        };
        let threads = vec![
            spawn("log", Box::new(move || writer::write_log(log, asked, &next)))?,
            spawn("heads", Box::new(move || writer::fill_heads(&filler, replay_below, steps)))?,
        ];
        Ok(Store {
            inner,
            asks: Mutex::new(Some(asks)),
            threads: Mutex::new(threads),
            cpu,
            upkeep,
            flushing: tokio::sync::Mutex::new(()),
            _lock: held,
        })
    }
}

/// Takes the directory for this process.
fn lock(path: &Path) -> Result<File, OpenError> {
    let path = path.join("LOCK");
    let fail = |source| OpenError::Directory { action: "write", path: path.clone(), source };
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = open.map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without a pid the message still says what to do.
            drop(file.read_to_string(&mut holder));
            return Err(OpenError::Locked { path, holder: format!("pid {}", holder.trim()) });
        }
        Err(TryLockError::Error(source)) => return Err(fail(source)),
    }
    file.set_len(0).map_err(fail)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(fail)?;
    Ok(file)
}

fn check_format(kv: &Kv, path: &Path) -> Result<(), OpenError> {
    let known = state::FORMAT_VERSION;
    match kv.state(state::FORMAT)?.into_iter().find(|(key, _)| key == state::FORMAT) {
        None => kv.put_state(&[(state::FORMAT.to_vec(), Some(known.to_vec()))])?,
        Some((_, found)) if found == known => {}
        Some((_, found)) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (found, known) = (text(&found), text(known));
            return Err(OpenError::Newer { path: path.to_owned(), found, known });
        }
    }
    Ok(())
}

/// The state of each tenant. Blocks that were announced and are there count; others are forgotten.
fn recover(kv: &Kv, backend: &Local) -> Result<HashMap<TenantId, TenantState>, OpenError> {
    let mut states: HashMap<TenantId, TenantState> = kv
        .state(state::tenants_prefix())?
        .iter()
        .filter_map(|(key, value)| state::read_tenant(key, value))
        .collect();
    for (key, value) in kv.state(state::intents_prefix())? {
        let mut entries = vec![(key.clone(), None)];
        if let Some((block, tenant, announced)) = state::read_intent(&key, &value)
            && backend.exists(&tenant, block)
        {
            tracing::info!(tenant = %tenant, block = %block, "a block was complete when the last process ended");
            entries.push(state::tenant_entry(&tenant, &announced));
            states.insert(tenant, announced);
        }
        kv.put_state(&entries)?;
    }
    Ok(states)
}

/// The blocks that are there. One that cannot be read is named and left out.
fn load(
    kv: &Kv,
    backend: &Local,
    path: &Path,
) -> Result<HashMap<TenantId, Arc<Tenant>>, OpenError> {
    let indexed: HashSet<BlockId> = kv
        .state(state::indexed_prefix())?
        .iter()
        .filter_map(|(key, _)| state::read_indexed(key))
        .collect();
    let mut tenants = HashMap::new();
    for tenant in backend.tenants()? {
        let mut blocks = Vec::new();
        let mut damaged = 0;
        for id in backend.blocks(&tenant)? {
            let block = match open_block(backend, &tenant, id) {
                Ok(block) => block,
                Err(error) => {
                    damaged += 1;
                    tracing::error!(tenant = %tenant, block = %id, err = &error as &dyn std::error::Error, "a block is left out");
                    continue;
                }
            };
            if !indexed.contains(&id) {
                let scratch = path.join("staging").join(format!("{id}.sst"));
                match block.ids() {
                    Ok(ids) => {
                        index::add(kv, &scratch, &tenant, id, ids.into_iter())?;
                        kv.put_state(&[state::indexed_entry(id)])?;
                        tracing::info!(tenant = %tenant, block = %id, "added a block to the trace index");
                    }
                    Err(error) => {
                        damaged += 1;
                        tracing::error!(tenant = %tenant, block = %id, err = &error as &dyn std::error::Error, "a block is left out");
                        continue;
                    }
                }
            }
            blocks.push(Arc::new(block));
        }
        gauge!(telemetry::STORE_DAMAGED_BLOCKS, "tenant" => tenant.to_string())
            .set(f64::from(damaged));
        blocks.sort_by_key(|block| std::cmp::Reverse(block.range.end_nanos));
        tenants.insert(tenant.clone(), Arc::new(Tenant::new(tenant, blocks)));
    }
    Ok(tenants)
}

fn open_block(backend: &Local, tenant: &TenantId, id: BlockId) -> Result<Block, ReadError> {
    let json =
        backend.read(tenant, id, META).map_err(|source| ReadError::Io { block: id, source })?;
    let meta = |source| ReadError::Meta { block: id, source };
    Block::new(backend.clone(), tenant.clone(), Meta::parse(&json).map_err(meta)?).map_err(meta)
}
