//! The engine's filters, tests and methods, charged for what they read and make.

use super::budget::{invalid, settled, spend, spend_length, spend_whole};
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters, functions, tests};

/// The most digits of a number in a text to be formatted, which is a width.
const WIDTH_DIGITS: usize = 4;
/// The widest indentation, and the most columns of a table.
const WIDEST: usize = 1 << 16;

/// What a call is charged for before it is made.
#[derive(Clone, Copy)]
enum Reads {
    /// The texts and lists that it is given, their elements not.
    Lengths,
    /// All of what it is given.
    Whole,
}

pub(super) fn add(environment: &mut Environment<'static>) {
    use Reads::{Lengths, Whole};
    macro_rules! charge {
        ($add:ident, $module:ident, $reads:expr, [$($name:ident),* $(,)?]) => {
            $(environment.$add(stringify!($name), charged(stringify!($name), $reads, Value::from_function($module::$name)));)*
        };
    }
    charge!(
        add_filter,
        filters,
        Lengths,
        [
            abs, attr, batch, bool, chain, default, first, float, indent, int, items, last, length, lines, list, lower,
            map, reject, rejectattr, reverse, round, select, selectattr, slice, split, title, trim, upper, capitalize,
            zip,
        ]
    );
    charge!(
        add_filter,
        filters,
        Whole,
        [dictsort, format, groupby, join, max, min, pprint, replace, sort, string, sum, unique,]
    );
    environment.add_filter("count", charged("length", Lengths, Value::from_function(filters::length)));
    environment.add_filter("d", charged("default", Lengths, Value::from_function(filters::default)));
    for (names, test) in [
        (&["eq", "equalto", "=="][..], Value::from_function(tests::is_eq)),
        (&["ne", "!="], Value::from_function(tests::is_ne)),
        (&["lt", "lessthan", "<"], Value::from_function(tests::is_lt)),
        (&["le", "<="], Value::from_function(tests::is_le)),
        (&["gt", "greaterthan", ">"], Value::from_function(tests::is_gt)),
        (&["ge", ">="], Value::from_function(tests::is_ge)),
        (&["in"], Value::from_function(tests::is_in)),
        (&["startingwith"], Value::from_function(tests::is_startingwith)),
        (&["endingwith"], Value::from_function(tests::is_endingwith)),
        (&["lower"], Value::from_function(tests::is_lower)),
        (&["upper"], Value::from_function(tests::is_upper)),
    ] {
        for name in names {
            environment.add_test(*name, charged_test(test.clone()));
        }
    }
    // It prints all that there is.
    environment.remove_global("debug");
    environment.add_function("dict", dict);
    environment.add_function("namespace", charged("namespace", Whole, Value::from_function(functions::namespace)));
}

fn charged(
    name: &'static str,
    reads: Reads,
    function: Value,
) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Value, Error> + Send + Sync + 'static {
    move |state, args| {
        let args = args.into_values();
        match reads {
            Reads::Lengths => args.iter().try_for_each(spend_length)?,
            Reads::Whole => args.iter().try_for_each(|arg| spend_whole(arg, true))?,
        }
        before(name, &args)?;
        let value = made(&args, function.call(state, &args)?)?;
        if name == "chain" { unchained(&value) } else { Ok(value) }
    }
}

fn charged_test(
    function: Value,
) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<bool, Error> + Send + Sync + 'static {
    move |state, args| {
        let args = args.into_values();
        args.iter().try_for_each(|arg| spend_whole(arg, true))?;
        Ok(function.call(state, &args)?.is_true())
    }
}

/// A method of a text, list or map, charged like a filter.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let mut all = vec![value.clone()];
    all.extend_from_slice(args);
    if matches!(name, "join" | "format" | "replace" | "count" | "startswith" | "endswith") {
        all.iter().try_for_each(|arg| spend_whole(arg, true))?;
    } else {
        all.iter().try_for_each(spend_length)?;
    }
    // `', '.join(list)` has its arguments the other way round.
    if name == "join" {
        all.reverse();
    }
    before(name, &all)?;
    made(&all, super::python::method(state, value, name, args)?)
}

/// Takes what a call will make where that can be more than a few times what it reads.
fn before(name: &str, args: &[Value]) -> Result<(), Error> {
    let text = |at: usize| args.get(at).and_then(Value::as_str);
    let number = |at: usize| args.get(at).and_then(Value::as_usize);
    let own = text(0).unwrap_or_default();
    match name {
        "replace" => {
            let times = text(1).map_or(0, |from| own.matches(from).count());
            spend(times.saturating_mul(text(2).map_or(0, str::len)))
        }
        "join" => {
            let joiner = args[1..].iter().find_map(|arg| keyword_text(arg, "d")).or_else(|| text(1).map(str::len));
            let items = args.first().and_then(Value::len).map_or_else(|| count(args.first()), Ok)?;
            spend(items.saturating_mul(joiner.unwrap_or(0)))
        }
        "format" => check_widths(own),
        "indent" => {
            let width = number(1).or_else(|| args.iter().find_map(|arg| keyword_number(arg, "width"))).unwrap_or(4);
            limited("indent", width)?;
            spend(own.lines().count().saturating_add(1).saturating_mul(width))
        }
        "batch" | "slice" => {
            let columns = number(1).unwrap_or(0);
            limited(name, columns)?;
            let rows = if name == "slice" { 1 } else { args.first().and_then(Value::len).unwrap_or(0).max(1) };
            spend(own.len().saturating_mul(16))?;
            spend(columns.saturating_mul(16).saturating_mul(rows.div_ceil(columns.max(1))))
        }
        "split" => {
            let parts = match text(1) {
                Some(separator) => own.matches(separator).count(),
                None => own.split_whitespace().count(),
            };
            spend(parts.saturating_mul(32))
        }
        "lines" | "splitlines" => spend(own.bytes().filter(|byte| *byte == b'\n').count().saturating_mul(32)),
        // Of a text, these make a list of its characters.
        "list" | "sort" | "unique" | "reverse" | "map" | "select" | "reject" | "zip" | "chain" | "groupby" => {
            spend(own.len().saturating_mul(32))
        }
        "round" => limited("round", args.iter().skip(1).find_map(Value::as_usize).unwrap_or(0)),
        _ => Ok(()),
    }
}

/// Takes what a call made.
fn made(args: &[Value], value: Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::Iterable && args.iter().any(|arg| arg.kind() == ValueKind::Iterable) {
        return settled(value);
    }
    // What is computed when it is read is charged then.
    if value.kind() != ValueKind::Iterable {
        spend_whole(&value, false)?;
    }
    Ok(value)
}

fn count(list: Option<&Value>) -> Result<usize, Error> {
    list.map_or(Ok(0), |list| Ok(list.try_iter()?.count()))
}

fn keyword_text(arg: &Value, name: &str) -> Option<usize> {
    if arg.is_kwargs() { Some(arg.get_attr(name).ok()?.as_str()?.len()) } else { None }
}

fn keyword_number(arg: &Value, name: &str) -> Option<usize> {
    if arg.is_kwargs() { arg.get_attr(name).ok()?.as_usize() } else { None }
}

fn limited(name: &str, found: usize) -> Result<(), Error> {
    if found <= WIDEST { Ok(()) } else { Err(invalid(format!("{name}: {found}, expected at most {WIDEST}"))) }
}

/// Refuses widths that no prompt has, as in `%99999999d`.
fn check_widths(format: &str) -> Result<(), Error> {
    let is_long = |run: &str| run.len() > WIDTH_DIGITS;
    if format.split(|c: char| !c.is_ascii_digit()).any(is_long) {
        return Err(invalid(format!("a number in a format has more than {WIDTH_DIGITS} digits")));
    }
    Ok(())
}

/// `dict(…)`, whose entries are copied: the engine's own refers to the map that it extends.
#[expect(clippy::needless_pass_by_value, reason = "functions take their keyword arguments so")]
fn dict(value: Option<Value>, extra: Kwargs) -> Result<Value, Error> {
    let mut entries = match value.filter(|value| !value.is_undefined()) {
        Some(map) if map.kind() == ValueKind::Map => entries_of(&map)?,
        Some(other) => return Err(invalid(format!("dict: a value is {}, expected a map", other.kind()))),
        None => vec![],
    };
    for name in extra.args() {
        let (key, value) = (Value::from(name), extra.get::<Value>(name)?);
        spend_whole(&value, false)?;
        match entries.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => entries.push((key, value)),
        }
    }
    Ok(super::json::ordered(entries))
}

fn entries_of(map: &Value) -> Result<Vec<(Value, Value)>, Error> {
    spend_whole(map, false)?;
    map.try_iter()?.map(|key| Ok((key.clone(), map.get_item(&key)?))).collect()
}

/// What `chain` made, copied: the engine's own list or map refers to those that it is made of.
fn unchained(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Map => Ok(super::json::ordered(entries_of(value)?)),
        _ => Ok(value.try_iter()?.collect()),
    }
}
