//! What the operator wrote, laid over the defaults: `--set`, `${ENV}`, and the search for keys that
//! do not exist.
//!
//! The known keys are those of the defaults written as TOML, so no second list of them exists.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::{Config, Fault};

/// Reads a variable of the environment.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Every key there is, with its default.
pub(super) fn known_keys() -> Table {
    Table::try_from(Config::default()).expect("every section is a table of plain values")
}

/// Puts one `--set section.key=value` over what the file says.
///
/// The value is TOML; what is no TOML, or is no text where a text belongs, counts as the text
/// itself.
pub(super) fn assign(table: &mut Table, assignment: &str, faults: &mut Vec<Fault>) {
    let Some((key, text)) = assignment.split_once('=') else {
        faults.push(Fault::new(assignment, "has no value; write --set section.key=value"));
        return;
    };
    let path: Vec<&str> = key.trim().split('.').map(str::trim).collect();
    if path.iter().any(|part| part.is_empty()) {
        faults.push(Fault::new(key, "is no key; write --set section.key=value"));
        return;
    }
    let text = text.trim();
    let wants_text = find(&known_keys(), &path).is_some_and(Value::is_str);
    let value = match parse_value(text) {
        Some(value) if value.is_str() || !wants_text => value,
        _ => Value::String(text.to_owned()),
    };
    put(table, &path, value);
}

/// One TOML value; `None` if the text is none, or more than one.
fn parse_value(text: &str) -> Option<Value> {
    let table: Table = toml::from_str(&format!("value = {text}")).ok()?;
    let mut entries = table.into_iter();
    match (entries.next(), entries.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

fn find<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (last, parents) = path.split_last()?;
    let mut table = table;
    for part in parents {
        table = table.get(*part)?.as_table()?;
    }
    table.get(*last)
}

/// Sets the value at `path`. Tables merge; everything else replaces what was there.
fn put(table: &mut Table, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    let slot = table.entry(*first).or_insert_with(|| Value::Table(Table::new()));
    match (slot, value) {
        (Value::Table(old), Value::Table(new)) if rest.is_empty() => {
            for (key, value) in new {
                put(old, &[key.as_str()], value);
            }
        }
        (slot, value) if rest.is_empty() => *slot = value,
        (Value::Table(old), value) => put(old, rest, value),
        (slot, value) => {
            let mut inner = Table::new();
            put(&mut inner, rest, value);
            *slot = Value::Table(inner);
        }
    }
}

/// Lays what the operator wrote over the defaults. What is at fault stays at its default, so that
/// one look finds all.
pub(super) fn apply(written: &Table, env: Env<'_>, faults: &mut Vec<Fault>) -> Config {
    let known = known_keys();
    let mut leaves = BTreeMap::new();
    Walk { known: &known, env, faults: &mut *faults }.table(written, &known, "", &mut leaves);
    let mut whole = known.clone();
    for (key, value) in leaves {
        let path: Vec<&str> = key.split('.').collect();
        let mut alone = known.clone();
        put(&mut alone, &path, value.clone());
        match Config::deserialize(alone) {
            Ok(_) => put(&mut whole, &path, value),
            Err(error) => faults.push(Fault::new(key, error.message().trim())),
        }
    }
    Config::deserialize(whole).expect("each value was taken on its own, and no type looks at two")
}

/// The comparison of what is written with what is known.
struct Walk<'a> {
    known: &'a Table,
    env: Env<'a>,
    faults: &'a mut Vec<Fault>,
}

impl Walk<'_> {
    /// Gathers the values below `written` by their full key.
    fn table(
        &mut self,
        written: &Table,
        known: &Table,
        above: &str,
        leaves: &mut BTreeMap<String, Value>,
    ) {
        for (name, value) in written {
            let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            match (known.get(name), value) {
                (None, _) => {
                    let hint = hint(self.known, known, above, name);
                    self.faults.push(Fault::new(key, format!("unknown key; {hint}")));
                }
                (Some(Value::Table(known)), Value::Table(written)) => {
                    self.table(written, known, &key, leaves);
                }
                (Some(Value::Table(known)), _) => {
                    let names = names(known);
                    self.faults
                        .push(Fault::new(key, format!("is a section; its keys are {names}")));
                }
                (Some(_), Value::Table(_)) => {
                    self.faults.push(Fault::new(key, "is a value, not a section"));
                }
                (Some(default), value) => {
                    if let Some(value) = self.expanded(&key, value, default) {
                        leaves.insert(key, value);
                    }
                }
            }
        }
    }

    /// The value with its `${ENV}`s filled in, and read as TOML where the key wants no text.
    fn expanded(&mut self, key: &str, value: &Value, default: &Value) -> Option<Value> {
        match value {
            Value::String(text) if text.contains('$') => {
                let text = self.expand(key, text)?;
                let typed = if default.is_str() { None } else { parse_value(&text) };
                Some(typed.unwrap_or(Value::String(text)))
            }
            Value::Array(items) => {
                let text = Value::String(String::new());
                let items = items.iter().map(|item| self.expanded(key, item, &text));
                items.collect::<Option<Vec<Value>>>().map(Value::Array)
            }
            value => Some(value.clone()),
        }
    }

    /// `${NAME}`, `${NAME:default}` (also `:-`, as in a shell) and `$$` for `$`. What comes in is
    /// not read again.
    fn expand(&mut self, key: &str, text: &str) -> Option<String> {
        let faults_before = self.faults.len();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(behind) = behind.strip_prefix('$') {
                out.push('$');
                rest = behind;
            } else if let Some(inside) = behind.strip_prefix('{') {
                let Some((inside, behind)) = inside.split_once('}') else {
                    self.faults
                        .push(Fault::new(key, "has \"${\" without \"}\"; write $$ for a plain $"));
                    return None;
                };
                match variable(inside, self.env) {
                    Ok(value) => out.push_str(&value),
                    Err(problem) => self.faults.push(Fault::new(key, problem)),
                }
                rest = behind;
            } else {
                out.push('$');
                rest = behind;
            }
        }
        out.push_str(rest);
        (self.faults.len() == faults_before).then_some(out)
    }
}

/// The value of `NAME` or `NAME:default`. The default also stands in for an empty variable.
fn variable(inside: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(':') {
        Some((name, default)) => (name, Some(default.strip_prefix('-').unwrap_or(default))),
        None => (inside, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!("{name:?} is no name of an environment variable"));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "environment variable {name} is not set; set it, or write ${{{name}:default}}"
        )),
    }
}

/// What the operator may have meant by `name` in the section `above`.
fn hint(all: &Table, siblings: &Table, above: &str, name: &str) -> String {
    let mut elsewhere = Vec::new();
    paths(all, "", &mut elsewhere);
    let full = |name: &str| {
        if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") }
    };
    let near_sibling = nearest(name, siblings.keys().map(String::as_str)).map(full);
    let same_name = elsewhere.iter().find(|path| path.rsplit('.').next() == Some(name)).cloned();
    let near_path = || {
        let others = elsewhere.iter().map(String::as_str).filter(|path| *path != above);
        nearest(&full(name), others).map(str::to_owned)
    };
    match near_sibling.or(same_name).or_else(near_path) {
        Some(path) => format!("did you mean {path}?"),
        None if above.is_empty() => format!("the sections are {}", names(siblings)),
        None => format!("the keys of {above} are {}", names(siblings)),
    }
}

fn names(table: &Table) -> String {
    table.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Every section and key, in full.
fn paths(table: &Table, above: &str, out: &mut Vec<String>) {
    for (name, value) in table {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        out.push(path.clone());
        if let Value::Table(inner) = value {
            paths(inner, &path, out);
        }
    }
}

/// The candidate with the fewest edits, if they are few for a name of that length.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let few = (name.chars().count() / 3).max(1);
    let scored = candidates.map(|candidate| (edits(name, candidate), candidate));
    scored.filter(|(edits, _)| *edits <= few).min().map(|(_, candidate)| candidate)
}

/// Inserted, deleted and replaced characters between two words (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, b) in row.iter_mut().skip(1).zip(&to) {
            let above = *slot;
            left = (diagonal + usize::from(a != *b)).min(above + 1).min(left + 1);
            diagonal = above;
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "DIR" => Some("/srv".to_owned()),
            "COUNT" => Some("7".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${DIR}".to_owned()),
            _ => None,
        }
    }

    /// What differs from the defaults, then the faults.
    fn check(file: &str, set: &[&str], expected: Expect) {
        let mut table: Table = toml::from_str(file).unwrap();
        let mut faults = Vec::new();
        for assignment in set {
            assign(&mut table, assignment, &mut faults);
        }
        let config = apply(&table, &env, &mut faults);
        let faults = faults.iter().map(|fault| format!("! {fault}\n")).collect::<String>();
        expected.assert_eq(&(config.to_toml_changes() + &faults));
    }

    #[test]
    fn the_last_word_wins() {
        check(
            "[wal]\nsync = \"off\"\nmin_free = 1000\n[storage.s3]\nregion = \"eu-1\"",
            &[
                "wal.sync=interval",
                " storage.path = /data ",
                "storage.s3.bucket=2024",
                "wal.sync=off",
            ],
            expect![[r#"
                [storage]
                path = "/data"

                [storage.s3]
                bucket = "2024"
                region = "eu-1"

                [wal]
                min_free = "1kB"
                sync = "off"
            "#]],
        );
    }

    #[test]
    fn a_set_value_is_toml_or_a_word() {
        check(
            "",
            &[
                "tenancy.enabled=true",
                "query.default_limit=5",
                "retention.period=2d",
                "memory.limit=536870912",
                "telemetry.compat_names=[\"tempo\"]",
                "query.http_api_prefix=\"/a = b\"",
                "storage.s3={ bucket = \"traces\", force_path_style = true }",
                "storage.path=a=b",
            ],
            expect![[r#"
                [memory]
                limit = "512MiB"

                [query]
                default_limit = 5
                http_api_prefix = "/a = b"

                [retention]
                period = "2d"

                [storage]
                path = "a=b"

                [storage.s3]
                bucket = "traces"
                force_path_style = true

                [telemetry]
                compat_names = ["tempo"]

                [tenancy]
                enabled = true
            "#]],
        );
    }

    #[test]
    fn a_set_value_that_cannot_be_is_named() {
        check(
            "wal = 3",
            &[
                "wal",
                "=3",
                "wal..sync=off",
                "query.default_limit=many",
                "walk.sync=off",
                "wal.sync.x=1",
            ],
            expect![[r#"
                ! wal: has no value; write --set section.key=value
                ! : is no key; write --set section.key=value
                ! wal..sync: is no key; write --set section.key=value
                ! wal.sync: is a value, not a section
                ! walk: unknown key; did you mean wal?
                ! query.default_limit: invalid type: string "many", expected u32
            "#]],
        );
    }

    #[test]
    fn the_environment_is_filled_in_once() {
        check(
            r#"
            [storage]
            path = "${DIR}/a${NONE:b}${EMPTY:-c}${EMPTY}$${DIR}$x$"
            s3.bucket = "${NESTED}"
            s3.prefix = "${NONE:}"
            [query]
            default_limit = "${COUNT}"
            http_api_prefix = "$"
            [tenancy]
            enabled = "${NONE:true}"
            [telemetry]
            compat_names = ["${NONE:tempo}", "seed"]
            "#,
            &["query.http.listen=${NONE:127.0.0.1:1}"],
            expect![[r#"
                [query]
                default_limit = 7
                http_api_prefix = "$"

                [query.http]
                listen = "127.0.0.1:1"

                [storage]
                path = "/srv/abc${DIR}$x$"

                [storage.s3]
                bucket = "${DIR}"

                [telemetry]
                compat_names = ["tempo", "seed"]

                [tenancy]
                enabled = true
            "#]],
        );
    }

    #[test]
    fn a_missing_variable_is_named() {
        check(
            r#"
            [storage]
            path = "${NONE}/${ALSO_NONE}"
            s3.bucket = "${DIR"
            s3.prefix = "${}${a b}"
            "#,
            &[],
            expect![[r#"
                ! storage.path: environment variable NONE is not set; set it, or write ${NONE:default}
                ! storage.path: environment variable ALSO_NONE is not set; set it, or write ${ALSO_NONE:default}
                ! storage.s3.bucket: has "${" without "}"; write $$ for a plain $
                ! storage.s3.prefix: "" is no name of an environment variable
                ! storage.s3.prefix: "a b" is no name of an environment variable
            "#]],
        );
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        check(
            r#"
            retention_period = "1d"
            xyz = 1
            [recieve.otlp_grpc]
            listen = ""
            [wal]
            synk = "always"
            bucket = "b"
            color = "red"
            [storage.s3]
            force_pathstyle = true
            [receive.otlp_grpc]
            max_requst = "1MiB"
            "a.b" = 1
            "#,
            &[],
            expect![[r#"
                ! receive.otlp_grpc.a.b: unknown key; did you mean receive.otlp_grpc.listen?
                ! receive.otlp_grpc.max_requst: unknown key; did you mean receive.otlp_grpc.max_request?
                ! recieve: unknown key; did you mean receive?
                ! retention_period: unknown key; did you mean retention.period?
                ! storage.s3.force_pathstyle: unknown key; did you mean storage.s3.force_path_style?
                ! wal.bucket: unknown key; did you mean storage.s3.bucket?
                ! wal.color: unknown key; the keys of wal are min_free, sync, sync_interval
                ! wal.synk: unknown key; did you mean wal.sync?
                ! xyz: unknown key; the sections are block, live, memory, query, receive, retention, shutdown, storage, telemetry, tenancy, wal
            "#]],
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named() {
        check(
            r#"
            tenancy = "on"
            [wal]
            sync = "sometimes"
            min_free = "1 apple"
            sync_interval = 100
            [storage]
            path = ["a"]
            backend = { s3 = true }
            [query]
            default_limit = -1
            max_limit = 5000000000
            timeout = true
            [query.http]
            listen = "here:80"
            [memory]
            limit = "much"
            [telemetry]
            compat_names = ["tempo", "prometheus"]
            "#,
            &[],
            expect![[r#"
                ! storage.backend: is a value, not a section
                ! tenancy: is a section; its keys are enabled
                ! memory.limit: "much" is not a size; write a whole number with B, KiB, MiB, GiB or TiB, as in "16MiB"
                ! query.default_limit: invalid value: integer `-1`, expected u32
                ! query.http.listen: "here:80" is not an address; write an IP address and a port, as in "0.0.0.0:4317"
                ! query.max_limit: invalid value: integer `5000000000`, expected u32
                ! query.timeout: invalid type: boolean `true`, expected a duration such as "30s"
                ! storage.path: invalid type: sequence, expected path string
                ! telemetry.compat_names: unknown variant `prometheus`, expected one of `tempo`, `tempo2`, `otelcol`, `seed`
                ! wal.min_free: "1 apple" is not a size; write a whole number with B, KiB, MiB, GiB or TiB, as in "16MiB"
                ! wal.sync: unknown variant `sometimes`, expected one of `always`, `interval`, `off`
                ! wal.sync_interval: "100" is not a duration; write whole numbers with ms, s, m, h or d, as in "1h30m"
            "#]],
        );
    }

    #[test]
    fn edits_are_counted() {
        let cases =
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("sync", "synk", 1), ("abc", "bca", 2)];
        for (from, to, count) in cases {
            assert_eq!(edits(from, to), count, "{from} {to}");
        }
    }
}
