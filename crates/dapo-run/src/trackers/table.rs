//! A table with a line for each step and each evaluation, as CSV.
//!
//! Columns never move: those that appear later, such as what a reward begins to log, are added at the right, and the lines
//! before get empty cells there.

use super::record::{Kept, Record, is_of_evaluation};

/// The first two columns.
const OWN: [&str; 2] = ["step", "time"];

/// What has to be done to add a line.
pub(super) enum Addition {
    /// Write this behind the file.
    Append(Vec<u8>),
    /// Write this in the place of the file, which has more columns now.
    Replace(Vec<u8>),
}

/// A line for a file; `None` where that is no table of a run.
pub(super) fn add(file: &[u8], record: &Record) -> Option<Addition> {
    let mut columns = if file.is_empty() { OWN.map(str::to_owned).to_vec() } else { header(file)?.0 };
    let known = columns.len();
    let mut cells = vec![record.step.to_string(), format!("{:.3}", record.time)];
    cells.resize(known, String::new());
    for (name, value) in &record.values {
        // A line of the file is a line of the table.
        let name: String = name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        let place = columns.iter().position(|column| *column == name).unwrap_or_else(|| {
            columns.push(name);
            cells.push(String::new());
            columns.len() - 1
        });
        cells[place] = value.map(cell).unwrap_or_default();
    }
    let line = line(&cells);
    if columns.len() == known {
        return Some(Addition::Append(line));
    }
    let mut table = self::line(&columns);
    let lines = if file.is_empty() { &[] } else { &file[header(file)?.1..] };
    let empty = ",".repeat(columns.len() - known);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        table.extend(line.strip_suffix(b"\n").unwrap_or(line));
        table.extend(empty.bytes());
        table.push(b'\n');
    }
    table.extend(line);
    Some(Addition::Replace(table))
}

/// Bytes of the lines that stay; `None` where this is no table of a run. What follows a damaged line goes.
pub(super) fn kept(file: &[u8], kept: Kept) -> Option<usize> {
    if file.is_empty() {
        return Some(0);
    }
    let (columns, mut end) = header(file)?;
    for line in file[end..].split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").and_then(|text| std::str::from_utf8(text).ok());
        let cells: Vec<&str> = text.unwrap_or_default().split(',').collect();
        let Ok(step) = cells[0].parse() else { break };
        if cells.len() != columns.len() {
            break;
        }
        let first = cells.iter().zip(&columns).skip(OWN.len()).find(|(cell, _)| !cell.is_empty());
        if !kept.has(step, first.is_some_and(|(_, column)| is_of_evaluation(column))) {
            break;
        }
        end += line.len();
    }
    Some(end)
}

/// The columns of a table, and where its lines begin.
fn header(file: &[u8]) -> Option<(Vec<String>, usize)> {
    let end = file.iter().position(|byte| *byte == b'\n')? + 1;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&file[..end]);
    let columns: Vec<String> = reader.records().next()?.ok()?.iter().map(str::to_owned).collect();
    columns.iter().zip(OWN).all(|(column, own)| column == own).then_some((columns, end)).filter(|(c, _)| c.len() > 1)
}

fn line(cells: &[String]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(cells);
    writer.into_inner().unwrap_or_default()
}

/// A number, without an exponent where it is easier to read so.
fn cell(value: f64) -> String {
    if value == 0.0 || (1e-5..1e15).contains(&value.abs()) { value.to_string() } else { format!("{value:e}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(step: u64, values: &[(&str, Option<f64>)]) -> Record {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Record { step, time: 1.25, values }
    }

    fn table(records: &[Record]) -> String {
        let mut file = Vec::new();
        for record in records {
            match add(&file, record).unwrap() {
                Addition::Append(line) => file.extend(line),
                Addition::Replace(table) => file = table,
            }
        }
        String::from_utf8(file).unwrap()
    }

    #[test]
    fn later_columns_are_added_at_the_right() {
        let rows = [
            record(0, &[("eval/a", Some(0.5))]),
            record(1, &[("train/x", None), ("train/lr", Some(1e-6))]),
            record(2, &[("train/lr", Some(-2e15)), ("train/say \"a,b\"\n", Some(3.0)), ("train/x", Some(12_345.0))]),
            record(2, &[("eval/a", Some(0.75))]),
        ];
        let expected = "step,time,eval/a,train/x,train/lr,\"train/say \"\"a,b\"\"_\"\n0,1.250,0.5,,,\n1,1.250,,,1e-6,\n\
                        2,1.250,,12345,-2e15,3\n2,1.250,0.75,,,\n";
        assert_eq!(table(&rows), expected);
    }

    #[test]
    fn only_lines_up_to_a_step_stay() {
        let [eval, train] = [("eval/a", Some(0.5)), ("train/x", Some(1.0))];
        let rows =
            [record(0, &[eval]), record(1, &[train]), record(2, &[train]), record(2, &[eval]), record(3, &[train])];
        let file = table(&rows);
        let lines = |steps, evaluation| {
            let end = kept(file.as_bytes(), Kept { steps, evaluation }).unwrap();
            file[..end].lines().count() - 1
        };
        assert_eq!([lines(0, false), lines(0, true), lines(1, true), lines(2, false), lines(2, true)], [0, 1, 2, 3, 4]);
        let torn = &file[..file.len() - 1];
        assert_eq!(kept(torn.as_bytes(), Kept { steps: 9, evaluation: true }), Some(file[..].rfind("3,").unwrap()));
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        let all = Kept { steps: 9, evaluation: true };
        for other in ["a,b\n1,2\n", "step\n1\n", "no end", "\n"] {
            assert!(add(other.as_bytes(), &record(1, &[])).is_none(), "{other:?}");
            assert_eq!(kept(other.as_bytes(), all), None, "{other:?}");
        }
    }
}
