//! The report for data frames: one row an input and target, as Parquet.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::text::visible;
use crate::outcome::{InputOutcome, Outcome};

/// The columns; `docs/datasets.md` explains them.
const SCHEMA: &str = "message inputs {
    required binary target (UTF8);
    required int64 sample;
    required binary input (UTF8);
    required boolean flips;
    optional int64 reference_class;
    optional int64 target_class;
    optional int64 reference_rank;
    optional int64 target_rank;
    required int64 differing;
    required int64 outputs_differing;
    optional binary worst_layer (UTF8);
    required double worst_lsb;
}";

/// The inputs of every target, a row each, in one row group; the same bytes for the same outcome.
///
/// # Errors
/// One line: the file cannot be put together.
pub fn parquet(outcome: &Outcome) -> Result<Vec<u8>> {
    make(outcome).map_err(|e| anyhow!("the parquet report: {e}"))
}

fn make(outcome: &Outcome) -> parquet::errors::Result<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let made_by = format!("align-check {}", env!("CARGO_PKG_VERSION"));
    let properties = WriterProperties::builder()
        .set_created_by(made_by)
        .set_key_value_metadata(Some(remarks(outcome)))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut rows: Vec<(&str, usize, &InputOutcome)> = Vec::new();
    for target in &outcome.targets {
        let inputs = target.inputs.iter().enumerate();
        rows.extend(inputs.map(|(number, input)| (target.name.as_str(), number, input)));
    }
    let mut group = writer.next_row_group()?;
    let whole = |f: &dyn Fn(&InputOutcome) -> Option<usize>| -> Vec<Option<i64>> {
        rows.iter()
            .map(|(_, _, input)| f(input).map(|v| v as i64))
            .collect()
    };
    let of = |pair: Option<[usize; 2]>, at: usize| pair.map(|pair| pair[at]);
    let text = |text: &str| ByteArray::from(visible(text).into_bytes());
    let name = |number: usize| outcome.names.get(number).map_or("", String::as_str);
    let layer = |input: &InputOutcome| {
        let layer = outcome.network.get(input.worst_layer?)?;
        Some(text(&layer.name))
    };
    let all = |n: usize| Some(n);
    let mut columns: Vec<Column> = vec![
        Column::Texts(rows.iter().map(|(target, ..)| Some(text(target))).collect()),
        Column::Wholes(
            rows.iter()
                .map(|(_, number, _)| Some(*number as i64))
                .collect(),
        ),
        Column::Texts(
            rows.iter()
                .map(|(_, number, _)| Some(text(name(*number))))
                .collect(),
        ),
        Column::Flags(rows.iter().map(|(.., input)| input.flips()).collect()),
    ];
    columns.extend([0, 1].map(|at| Column::Wholes(whole(&|input| of(input.classes, at)))));
    columns.extend([0, 1].map(|at| Column::Wholes(whole(&|input| of(input.ranks, at)))));
    columns.push(Column::Wholes(whole(
        &|input| all(input.differing as usize),
    )));
    columns.push(Column::Wholes(whole(&|input| {
        all(input.outputs_differing as usize)
    })));
    columns.push(Column::Texts(
        rows.iter().map(|(.., input)| layer(input)).collect(),
    ));
    columns.push(Column::Reals(
        rows.iter().map(|(.., input)| input.worst_lsb).collect(),
    ));
    for column in columns {
        column.write(&mut group)?;
    }
    group.close()?;
    writer.into_inner()
}

/// What the file is of: its metadata, by name.
fn remarks(outcome: &Outcome) -> Vec<KeyValue> {
    let all = outcome.interrupted.unwrap_or(outcome.inputs);
    [
        (
            "align-check.interrupted",
            outcome.interrupted.is_some().to_string(),
        ),
        ("align-check.inputs", outcome.inputs.to_string()),
        ("align-check.inputs_of", all.to_string()),
    ]
    .map(|(key, value)| KeyValue::new(key.to_owned(), value))
    .to_vec()
}

enum Column {
    Texts(Vec<Option<ByteArray>>),
    Wholes(Vec<Option<i64>>),
    Flags(Vec<bool>),
    Reals(Vec<f64>),
}

impl Column {
    fn write(&self, group: &mut SerializedRowGroupWriter<Vec<u8>>) -> parquet::errors::Result<()> {
        let Some(mut column) = group.next_column()? else {
            return Ok(());
        };
        // A level for each row: whether there is a value. Columns that need none ignore it.
        match self {
            Self::Texts(rows) => {
                let values: Vec<ByteArray> = rows.iter().flatten().cloned().collect();
                let levels: Vec<i16> = rows.iter().map(|v| i16::from(v.is_some())).collect();
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&levels), None)?;
            }
            Self::Wholes(rows) => {
                let values: Vec<i64> = rows.iter().flatten().copied().collect();
                let levels: Vec<i16> = rows.iter().map(|v| i16::from(v.is_some())).collect();
                column
                    .typed::<Int64Type>()
                    .write_batch(&values, Some(&levels), None)?;
            }
            Self::Flags(values) => {
                column.typed::<BoolType>().write_batch(values, None, None)?;
            }
            Self::Reals(values) => {
                column
                    .typed::<DoubleType>()
                    .write_batch(values, None, None)?;
            }
        }
        column.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_schema_agree() {
        let schema = parse_message_type(SCHEMA).expect("a schema");
        assert_eq!(schema.get_fields().len(), 12);
    }
}
