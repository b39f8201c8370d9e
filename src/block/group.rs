//! One row group of a block in columns: who belongs to whom, and the values of each column.
#![deny(clippy::indexing_slicing)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::columns::{AttrScope, NONE};
use crate::model::Value;
use crate::segment::attr::single;

use super::BlockError;
use super::decode::{Corrupt, Strings};
use super::meta::{DedicatedScope, DedicatedType, Meta, Version};
use super::open::Layout;
use super::read::{Column, Stored};
use super::schema::FIXED_RESOURCE;

/// Who owns the attributes of a group of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    Resource,
    Scope,
    Span,
    Event,
    Link,
}

/// Where an owner's attributes stand.
struct Place {
    path: &'static str,
    /// The level at which an item begins, and that of its attributes.
    depth: u32,
}

impl Owner {
    fn place(self) -> Place {
        let (path, depth) = match self {
            Owner::Resource => ("rs.Resource", 2),
            Owner::Scope => ("rs.ss.Scope", 3),
            Owner::Span => ("rs.ss.Spans", 4),
            Owner::Event => ("rs.ss.Spans.Events", 5),
            Owner::Link => ("rs.ss.Spans.Links", 5),
        };
        Place { path, depth }
    }
}

/// The columns that an attribute of one key may stand in.
#[derive(Clone, Debug)]
pub struct AttrLeaves {
    /// Its own column, if there is one.
    dedicated: Option<usize>,
    /// The leaf `Key` of the generic ones.
    generic: usize,
}

/// Which span belongs to which trace, resource and scope.
#[derive(Debug, Default)]
pub struct Structure {
    pub trace_ends: Vec<u32>,
    /// Of each span.
    pub resource: Vec<u32>,
    pub scope: Vec<u32>,
}

/// A value as it is stored: strings are codes of the column's dictionary.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Str(u32),
    Other(Value),
    /// It is there, but queries see no value: bytes, maps, mixed or empty arrays.
    Nothing,
}

/// A row group whose bytes have been fed.
pub struct GroupReader {
    pub meta: Arc<Meta>,
    pub layout: Arc<Layout>,
    pub group: usize,
    bytes: HashMap<usize, Bytes>,
    columns: HashMap<usize, Arc<Column>>,
    structure: Option<Arc<Structure>>,
}

impl GroupReader {
    pub fn new(meta: Arc<Meta>, layout: Arc<Layout>, group: usize) -> GroupReader {
        GroupReader {
            meta,
            layout,
            group,
            bytes: HashMap::new(),
            columns: HashMap::new(),
            structure: None,
        }
    }

    /// Those of the leaves whose bytes have not been fed.
    pub fn missing(&self, leaves: &HashSet<usize>) -> Vec<usize> {
        let mut missing: Vec<usize> =
            leaves.iter().copied().filter(|leaf| !self.bytes.contains_key(leaf)).collect();
        missing.sort_unstable();
        missing
    }

    pub fn feed(&mut self, leaf: usize, bytes: Bytes) {
        self.bytes.insert(leaf, bytes);
    }

    pub fn rows(&self) -> usize {
        self.layout.groups.get(self.group).map_or(0, |group| group.rows)
    }

    /// The leaf that every format version has under this path.
    pub fn leaf(layout: &Layout, meta: &Meta, path: &str) -> Result<usize, BlockError> {
        layout
            .find(path)
            .ok_or_else(|| BlockError::footer(meta, format!("column {path} is missing")))
    }

    fn corrupt(&self, leaf: usize, source: Corrupt) -> BlockError {
        let block = self.meta.block_id.clone();
        BlockError::Column { block, column: leaf.to_string(), group: self.group, source }
    }

    /// A column, decoded once.
    pub fn column(&mut self, leaf: usize) -> Result<Arc<Column>, BlockError> {
        if let Some(column) = self.columns.get(&leaf) {
            return Ok(Arc::clone(column));
        }
        let column = self.decode(leaf).map_err(|source| self.corrupt(leaf, source))?;
        let column = Arc::new(column);
        self.columns.insert(leaf, Arc::clone(&column));
        Ok(column)
    }

    fn decode(&self, leaf: usize) -> Result<Column, Corrupt> {
        let chunk = self.layout.groups.get(self.group).and_then(|group| group.chunks.get(leaf));
        let (chunk, info) = chunk.zip(self.layout.leaves.get(leaf)).ok_or(Corrupt::Bounds)?;
        Column::read(chunk, info, self.bytes.get(&leaf).ok_or(Corrupt::Short)?)
    }

    /// The dictionary of a column that is not decoded yet.
    pub fn dictionary(&self, leaf: usize) -> Result<Option<Arc<Strings>>, BlockError> {
        let chunk = self.layout.groups.get(self.group).and_then(|group| group.chunks.get(leaf));
        let found = chunk.zip(self.layout.leaves.get(leaf)).zip(self.bytes.get(&leaf));
        let Some(((chunk, info), bytes)) = found else { return Ok(None) };
        Column::dictionary(chunk, info, bytes).map_err(|source| self.corrupt(leaf, source))
    }

    pub fn is_decoded(&self, leaf: usize) -> bool {
        self.columns.contains_key(&leaf)
    }

    pub fn find(&mut self, path: &str) -> Result<Arc<Column>, BlockError> {
        let leaf = GroupReader::leaf(&self.layout, &self.meta, path)?;
        self.column(leaf)
    }

    /// Who belongs to whom, from the levels of a column that every span has.
    pub fn structure(&mut self) -> Result<Arc<Structure>, BlockError> {
        if let Some(structure) = &self.structure {
            return Ok(Arc::clone(structure));
        }
        let leaf = GroupReader::leaf(&self.layout, &self.meta, STRUCTURE)?;
        let column = self.column(leaf)?;
        let structure = Structure::new(&column.rep);
        if structure.trace_ends.len() != self.rows() || column.i64s().len() != column.entries {
            return Err(self.corrupt(leaf, Corrupt::Levels));
        }
        let structure = Arc::new(structure);
        self.structure = Some(Arc::clone(&structure));
        Ok(structure)
    }

    /// Calls `sink` for each item that has an attribute of the key, with its position among the owner's items.
    pub fn attr(
        &mut self,
        owner: Owner,
        key: &str,
        leaves: &AttrLeaves,
        sink: &mut dyn FnMut(usize, Raw, &Strings),
    ) -> Result<(), BlockError> {
        let none = Strings::default();
        let mut taken = HashSet::new();
        if let Some(leaf) = leaves.dedicated {
            let column = self.column(leaf)?;
            let max = self.layout.leaves.get(leaf).map_or(0, |info| info.max_def);
            let mut walk = Values { column: &column, value: 0 };
            let dict = column.strings().map_or(&none, |(_, dict)| dict);
            let mut item = 0;
            let mut at = 0;
            // A dedicated column of vParquet5 may hold arrays: several values for one item.
            let repeats = owner.place().depth;
            while at < column.entries {
                let mut found = Vec::new();
                let exists = column.def(at, max) >= repeats - 1;
                loop {
                    if column.def(at, max) == max {
                        found.extend(walk.next());
                    }
                    at += 1;
                    if column.rep.get(at).is_none_or(|level| u32::from(*level) < repeats) {
                        break;
                    }
                }
                if !found.is_empty() {
                    taken.insert(item);
                    sink(item, array(found, dict), dict);
                }
                item += usize::from(exists);
            }
        }
        self.generic_attr(owner, key, leaves.generic, &mut |item, raw, dict| {
            if !taken.contains(&item) {
                sink(item, raw, dict);
            }
        })
    }

    fn generic_attr(
        &mut self,
        owner: Owner,
        key: &str,
        first: usize,
        sink: &mut dyn FnMut(usize, Raw, &Strings),
    ) -> Result<(), BlockError> {
        if !self.is_decoded(first)
            && let Some(dict) = self.dictionary(first)?
            && !(0..dict.len()).any(|at| dict.get(at) == key.as_bytes())
        {
            return Ok(());
        }
        let depth = owner.place().depth;
        let keys = self.column(first)?;
        let picked = picked(&keys, key, depth);
        if picked.is_empty() {
            return Ok(());
        }
        let mut found: Vec<Vec<Raw>> = vec![Vec::new(); picked.len()];
        let mut dict = None;
        for nth in 0..4 {
            let column = self.column(first + 2 + nth)?;
            collect(&column, &picked, depth, &mut found);
            if nth == 0 {
                dict = Some(column);
            }
        }
        let none = Strings::default();
        let dict =
            dict.as_ref().and_then(|column| column.strings()).map_or(&none, |(_, dict)| dict);
        for ((_, item), values) in picked.into_iter().zip(found) {
            sink(item as usize, array(values, dict), dict);
        }
        Ok(())
    }
}

/// A column that every span has, in every version: its levels tell the structure.
pub const STRUCTURE: &str = "rs.ss.Spans.StatusCode";

impl Structure {
    fn new(rep: &[u8]) -> Structure {
        let mut structure = Structure::default();
        let (mut resource, mut scope) = (0u32, 0u32);
        for (at, level) in (0u32..).zip(rep) {
            if at > 0 {
                if *level == 0 {
                    structure.trace_ends.push(at);
                }
                resource += u32::from(*level <= 1);
                scope += u32::from(*level <= 2);
            }
            structure.resource.push(resource);
            structure.scope.push(scope);
        }
        if !rep.is_empty() {
            structure.trace_ends.push(rep.len() as u32);
        }
        structure
    }

    pub fn spans(&self) -> usize {
        self.resource.len()
    }

    /// The spans of a trace.
    pub fn trace(&self, row: usize) -> std::ops::Range<usize> {
        let end = |row: usize| self.trace_ends.get(row).copied().unwrap_or_default() as usize;
        row.checked_sub(1).map(end).unwrap_or_default()..end(row)
    }
}

/// The leaves of an attribute.
pub fn attr_leaves(
    layout: &Layout,
    meta: &Meta,
    owner: Owner,
    key: &str,
) -> Result<AttrLeaves, BlockError> {
    let path = owner.place().path;
    let generic = GroupReader::leaf(layout, meta, &format!("{path}.Attrs.Key"))?;
    let dedicated = dedicated_path(meta, owner, key)
        .and_then(|column| layout.find(&format!("{path}.{column}")));
    Ok(AttrLeaves { dedicated, generic })
}

impl AttrLeaves {
    /// Keys, values and the dedicated column.
    pub fn all(&self) -> impl Iterator<Item = usize> + '_ {
        let generic = [0, 2, 3, 4, 5].into_iter().map(|nth| self.generic + nth);
        self.dedicated.into_iter().chain(generic)
    }
}

/// The column of a dedicated attribute below its owner.
fn dedicated_path(meta: &Meta, owner: Owner, key: &str) -> Option<String> {
    let scope = match owner {
        Owner::Resource => DedicatedScope::Resource,
        Owner::Span => DedicatedScope::Span,
        Owner::Event => DedicatedScope::Event,
        Owner::Scope | Owner::Link => return None,
    };
    dedicated_names(meta, scope).into_iter().find(|(name, _)| name == key).map(|(_, path)| path)
}

/// Names and columns of a scope's dedicated attributes.
pub fn dedicated_names(meta: &Meta, scope: DedicatedScope) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, column: &str| names.push((name.to_owned(), column.to_owned()));
    let v4 = meta.version().is_ok_and(|version| version == Version::V4);
    match scope {
        DedicatedScope::Resource if v4 => {
            FIXED_RESOURCE.iter().for_each(|(column, name)| add(name, column))
        }
        DedicatedScope::Span if v4 => {
            add("http.method", "HttpMethod");
            add("http.url", "HttpUrl");
            add("http.status_code", "HttpStatusCode");
        }
        _ => {}
    }
    let (mut strings, mut ints) = (0, 0);
    for column in meta.dedicated_columns.iter().filter(|column| column.scope == scope) {
        let (count, prefix) = match column.kind {
            DedicatedType::String => (&mut strings, "String"),
            DedicatedType::Int => (&mut ints, "Int"),
        };
        *count += 1;
        add(&column.name, &format!("DedicatedAttributes.{prefix}{count:02}"));
    }
    names
}

/// Walks the values of a column.
struct Values<'a> {
    column: &'a Column,
    value: usize,
}

impl Values<'_> {
    fn next(&mut self) -> Option<Raw> {
        let at = self.value;
        self.value += 1;
        raw(&self.column.values, at)
    }
}

fn raw(values: &Stored, at: usize) -> Option<Raw> {
    match values {
        Stored::I64(values) => values.get(at).map(|value| Raw::Other(Value::Int(*value))),
        Stored::F64(values) => values.get(at).map(|value| Raw::Other(Value::Float(*value))),
        Stored::Bool(values) => values.get(at).map(|value| Raw::Other(Value::Bool(*value))),
        Stored::Strings { codes, .. } => codes.get(at).map(|code| Raw::Str(*code)),
    }
}

/// The entries with a key, each with its item: the first one of an item counts.
fn picked(keys: &Column, key: &str, depth: u32) -> Vec<(u32, u32)> {
    let Some((codes, dict)) = keys.strings() else { return Vec::new() };
    let wanted: Vec<bool> = (0..dict.len()).map(|at| dict.get(at) == key.as_bytes()).collect();
    let mut picked: Vec<(u32, u32)> = Vec::new();
    let mut items = 0u32;
    let mut codes = codes.iter();
    for (at, (rep, def)) in (0u32..).zip(keys.levels()) {
        if rep < depth && def >= depth - 1 {
            items += 1;
        }
        if def < depth {
            continue;
        }
        let Some(code) = codes.next() else { break };
        let item = items.saturating_sub(1);
        if wanted.get(*code as usize) == Some(&true)
            && picked.last().is_none_or(|(_, last)| *last != item)
        {
            picked.push((at, item));
        }
    }
    picked
}

/// Appends the values that a value column has for the picked entries.
fn collect(column: &Column, picked: &[(u32, u32)], depth: u32, found: &mut [Vec<Raw>]) {
    let mut wanted = picked.iter().map(|(entry, _)| *entry).zip(found.iter_mut()).peekable();
    let mut entry = u32::MAX;
    let mut value = 0;
    for (rep, def) in column.levels() {
        if rep <= depth {
            entry = entry.wrapping_add(1);
            if wanted.peek().is_some_and(|(at, _)| *at < entry) {
                wanted.next();
                if wanted.peek().is_none() {
                    return;
                }
            }
        }
        if def > depth {
            if let Some((at, values)) = wanted.peek_mut()
                && *at == entry
            {
                values.extend(raw(&column.values, value));
            }
            value += 1;
        }
    }
}

/// One value, or an array of several of one type.
fn array(mut values: Vec<Raw>, dict: &Strings) -> Raw {
    if values.len() <= 1 {
        return values.pop().unwrap_or(Raw::Nothing);
    }
    let all = |pick: fn(&Raw) -> bool| values.iter().all(pick);
    let value = if all(|raw| matches!(raw, Raw::Str(_))) {
        let text = |raw: &Raw| match raw {
            Raw::Str(code) => Arc::from(dict.str(*code as usize)),
            _ => Arc::from(""),
        };
        Value::StrArray(values.iter().map(text).collect())
    } else if all(|raw| matches!(raw, Raw::Other(Value::Int(_)))) {
        Value::IntArray(
            values
                .iter()
                .map(|raw| if let Raw::Other(Value::Int(n)) = raw { *n } else { 0 })
                .collect(),
        )
    } else if all(|raw| matches!(raw, Raw::Other(Value::Float(_)))) {
        Value::FloatArray(
            values
                .iter()
                .map(|raw| if let Raw::Other(Value::Float(n)) = raw { *n } else { 0.0 })
                .collect(),
        )
    } else if all(|raw| matches!(raw, Raw::Other(Value::Bool(_)))) {
        Value::BoolArray(
            values.iter().map(|raw| matches!(raw, Raw::Other(Value::Bool(true)))).collect(),
        )
    } else {
        return Raw::Nothing;
    };
    Raw::Other(single(value))
}

/// A dictionary made of the values that are used.
#[derive(Default)]
pub struct Coding {
    strings: HashMap<u32, u32, foldhash::fast::FixedState>,
    ints: HashMap<i64, u32, foldhash::fast::FixedState>,
    pub dict: Vec<Value>,
}

impl Coding {
    /// The code of a value in the dictionary under construction.
    pub fn code(&mut self, raw: Raw, strings: &Strings) -> u32 {
        let dict = &mut self.dict;
        let mut push = |value| {
            dict.push(value);
            dict.len() as u32 - 1
        };
        match raw {
            Raw::Nothing => NONE,
            Raw::Str(code) => {
                let value = || Value::str(strings.str(code as usize));
                *self.strings.entry(code).or_insert_with(|| push(value()))
            }
            Raw::Other(Value::Int(number)) => {
                *self.ints.entry(number).or_insert_with(|| push(Value::Int(number)))
            }
            Raw::Other(value) => push(value),
        }
    }
}

/// The owners that an attribute scope of a query looks in, first one first.
pub fn owners(scope: AttrScope) -> &'static [Owner] {
    match scope {
        AttrScope::Span => &[Owner::Span],
        AttrScope::Resource => &[Owner::Resource],
        AttrScope::Instrumentation => &[Owner::Scope],
        AttrScope::Any => &[Owner::Span, Owner::Resource],
    }
}
