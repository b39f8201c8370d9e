//! Holds the layers: who may import whom, and which packages may be used where.
//!
//! It reads the words of every file in `src`, without comments and texts; it does not understand Rust.
#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::fs;
use std::path::Path;

/// Rank of each top-level module. A module imports only lower ranks. See ARCHITECTURE.md.
const RANK: &[(&str, u8)] = &[
    ("config", 0),
    ("telemetry", 0),
    ("model", 0),
    ("cpu", 1),
    ("kv", 1),
    ("otlp", 1),
    ("columns", 1),
    ("traceql", 1),
    ("wal", 2),
    ("segment", 2),
    ("backend", 2),
    ("block", 3),
    ("store", 4),
    ("ingest", 5),
    ("query", 5),
    ("receive", 6),
    ("api", 6),
    ("load", 6),
    ("app", 7),
    ("cli", 7),
    ("main", 8),
    ("lib", 8),
];

/// A package, or one path in it, that only some modules may use.
struct Fence {
    /// The beginning of a path.
    path: &'static [&'static str],
    only: &'static [&'static str],
}

const WIRE: &[&str] = &["otlp", "receive", "api", "load", "cli"];

const ASYNC: &[&str] =
    &["cpu", "store", "ingest", "query", "receive", "api", "load", "app", "main"];

const CLOCK: &[&str] = &["telemetry", "store", "receive", "api", "load", "app", "main"];

const FENCES: &[Fence] = &[
    Fence { path: &["rocksdb"], only: &["kv"] },
    Fence { path: &["parquet"], only: &["block"] },
    Fence { path: &["http_body_util"], only: WIRE },
    Fence { path: &["hyper"], only: WIRE },
    Fence { path: &["hyper_util"], only: WIRE },
    Fence { path: &["opentelemetry_proto"], only: WIRE },
    Fence { path: &["prost"], only: WIRE },
    Fence { path: &["tonic"], only: WIRE },
    Fence { path: &["tokio"], only: ASYNC },
    Fence { path: &["tokio_util"], only: ASYNC },
    Fence { path: &["SystemTime", "now"], only: CLOCK },
    Fence { path: &["std", "time", "SystemTime", "now"], only: CLOCK },
];

/// Paths that are open to a module though a fence stands around the package.
const GATES: &[(&str, &[&str])] = &[("wal", &["tokio", "sync"])];

#[test]
fn every_module_keeps_to_its_layer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    let mut files = 0;
    for entry in sorted(&src) {
        let module = entry.trim_end_matches(".rs").to_owned();
        visit(&src.join(&entry), &mut |path, text| {
            files += 1;
            let path = path.strip_prefix(&src).unwrap().display();
            faults.extend(check(&module, text).into_iter().map(|fault| format!("{path}: {fault}")));
        });
    }
    assert!(files > 1, "no source in {}", src.display());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn sorted(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Calls `each` with every Rust file at or below `path`.
fn visit(path: &Path, each: &mut dyn FnMut(&Path, &str)) {
    if path.is_dir() {
        for name in sorted(path) {
            visit(&path.join(name), each);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        each(path, &fs::read_to_string(path).unwrap());
    }
}

/// What is wrong with one file of a top-level module.
fn check(module: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push("does not begin with a //! that says what it is for".to_owned());
    }
    if rank(module).is_none() {
        faults.push(format!("module {module} has no rank in tests/tidy.rs"));
    }
    let words = words(text);
    for path in paths(&words) {
        match path.as_slice() {
            ["crate", "{", ..] => faults.push("write one `use crate::x` per module".to_owned()),
            ["crate", other, ..] if !may_import(module, other) => {
                faults.push(format!("{module} may not import {other}"));
            }
            ["super" | "self", ..] | [.., "prelude", "*"] => {}
            [.., "*"] => faults.push(format!("write out what {} brings in", path.join("::"))),
            _ => {}
        }
        faults.extend(FENCES.iter().filter(|fence| breaks(fence, module, &path)).map(|fence| {
            let (path, only) = (fence.path.join("::"), fence.only.join(", "));
            format!("{module} may not use {path}: it is fenced in {only}")
        }));
    }
    faults
}

fn rank(module: &str) -> Option<u8> {
    RANK.iter().find(|(name, _)| *name == module).map(|(_, rank)| *rank)
}

fn may_import(module: &str, other: &str) -> bool {
    module == other
        || matches!((rank(other), rank(module)), (Some(other), Some(own)) if other < own)
}

fn breaks(fence: &Fence, module: &str, path: &[&str]) -> bool {
    let gated = GATES.iter().any(|(name, gate)| *name == module && path.starts_with(gate));
    path.starts_with(fence.path) && !fence.only.contains(&module) && !gated
}

/// The paths of at least two parts, up to their first `{`; and packages that are used whole.
fn paths(words: &[String]) -> Vec<Vec<&str>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while let Some(first) = words.get(at) {
        let after_use = at > 0 && words.get(at - 1).is_some_and(|word| word == "use");
        let mut path = vec![first.as_str()];
        at += 1;
        while words.get(at).is_some_and(|word| word == "::") {
            path.extend(words.get(at + 1).map(String::as_str));
            at += 2;
        }
        if path.len() > 1 || after_use {
            paths.push(path);
        }
    }
    paths
}

/// The words and signs of Rust source, without comments, texts and characters. `::` is one word.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = skipped(rest).unwrap_or_else(|| word_len(rest, c));
        let (word, behind) = rest.split_at(len);
        if skipped(rest).is_none() && !c.is_whitespace() {
            words.push(word.to_owned());
        }
        rest = behind;
    }
    words
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word_len(rest: &str, first: char) -> usize {
    match first {
        ':' if rest.starts_with("::") => 2,
        first if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        first => first.len_utf8(),
    }
}

/// Length of the comment, text or character at the front, if there is one.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        return character_len(inside).map(|len| len + 1);
    }
    let behind_prefix = rest.trim_start_matches(['b', 'c']);
    if let Some(raw) = behind_prefix.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let inside = raw.trim_start_matches('#').strip_prefix('"')?;
        let behind = inside.split_once(&end).map_or("", |(_, behind)| behind);
        return Some(rest.len() - behind.len());
    }
    let inside = behind_prefix.strip_prefix('"')?;
    Some(rest.len() - inside.len() + text_len(inside))
}

/// Length of a character literal behind its first quote; `None` for a lifetime.
fn character_len(inside: &str) -> Option<usize> {
    if let Some(escape) = inside.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        let (_, behind) = escape.split_at(first);
        return Some(1 + first + behind.find('\'')? + 1);
    }
    let first = inside.chars().next()?.len_utf8();
    inside.split_at(first).1.starts_with('\'').then_some(first + 1)
}

/// Length of a text behind its first quote, with its last.
fn text_len(inside: &str) -> usize {
    let mut escaped = false;
    let end = inside.find(|c: char| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(inside.len(), |end| end + 1)
}

#[test]
fn faults_are_found() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("store", "//! A.\nuse crate::block::Meta;\nuse crate::store::index;\n", &[]),
        ("block", "//! A.\nuse crate::store::Store;", &["block may not import store"]),
        ("segment", "//! A.\nfn f() { crate::block::open() }", &["segment may not import block"]),
        ("block", "//! A.\nuse crate::{segment, model};", &["write one `use crate::x` per module"]),
        ("block", "//! A.\nuse crate::nothing::X;", &["block may not import nothing"]),
        ("new", "//! A.\n", &["module new has no rank in tests/tidy.rs"]),
        ("wal", "use std::io;", &["does not begin with a //! that says what it is for"]),
        ("kv", "//! A.\nuse rocksdb::DB;", &[]),
        ("wal", "//! A.\nuse rocksdb::DB;", &["wal may not use rocksdb: it is fenced in kv"]),
        ("wal", "//! A.\nuse rocksdb as r;", &["wal may not use rocksdb: it is fenced in kv"]),
        ("wal", "//! A.\nuse tokio::sync::oneshot;", &[]),
        (
            "wal",
            "//! A.\nasync fn f() { tokio::time::sleep(x).await }",
            &[
                "wal may not use tokio: it is fenced in cpu, store, ingest, query, receive, api, load, \
               app, main",
            ],
        ),
        (
            "block",
            "//! A.\nfn f() { let now = SystemTime::now(); }",
            &[
                "block may not use SystemTime::now: it is fenced in telemetry, store, receive, api, load, app, \
               main",
            ],
        ),
        ("app", "//! A.\nfn f() { SystemTime::now(); }", &[]),
        ("model", "//! A.\nuse std::fmt::*;", &["write out what std::fmt::* brings in"]),
        ("model", "//! A.\nmod tests { use super::*; use proptest::prelude::*; }", &[]),
    ];
    for (module, text, faults) in cases {
        assert_eq!(check(module, text), *faults, "{module}: {text}");
    }
}

#[test]
fn comments_and_texts_are_no_code() {
    let cases: &[(&str, &[&str])] = &[
        ("a::b // rocksdb::DB\nc", &["a", "::", "b", "c"]),
        ("/* a\n b */ c /* d", &["c"]),
        (
            r#"a("x \" y", b'"', '\'', '\u{1f}', 'é') z"#,
            &["a", "(", ",", "b", ",", ",", ",", ")", "z"],
        ),
        ("r\"a\\\" b r##\"x\"# y\"## c br#\"d\"# e", &["b", "c", "e"]),
        (
            "fn f<'a>(x: &'a str) {}",
            &["fn", "f", "<", "'", "a", ">", "(", "x", ":", "&", "'", "a", "str", ")", "{", "}"],
        ),
        ("r#type break crate::x", &["r", "#", "type", "break", "crate", "::", "x"]),
        ("\"open", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(words(text), *expected, "{text}");
    }
}
