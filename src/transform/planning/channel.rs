//! By which way a result reaches its target, and whether it is kept at one row per key there.

use std::collections::HashSet;

use arrow::datatypes::SchemaRef;

use crate::model::{Channel, RestChannel, ResultMode, Sends};
use crate::transform::files::header::{Header, Way};
use crate::transform::files::{SqlError, SqlFile};

/// The columns of the `-- key:` line among those of the query.
pub(crate) fn mode(
    file: &SqlFile,
    header: &Header,
    schema: &SchemaRef,
) -> Result<ResultMode, SqlError> {
    let mut names = HashSet::new();
    if let Some(twin) = schema.fields().iter().find(|f| !names.insert(f.name())) {
        let message = format!("has two columns {}: rename one with AS", twin.name());
        return Err(file.error(None, message));
    }
    if header.key.is_empty() {
        return Ok(ResultMode::Append);
    }
    let column = |name: &String| {
        schema.index_of(name).map_err(|_| {
            let columns: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
            file.error(
                None,
                format!("key column {name} is not among the columns {}", columns.join(", ")),
            )
        })
    };
    let key = header.key.iter().map(column).collect::<Result<_, _>>()?;
    Ok(ResultMode::Keyed { key })
}

/// The channel of a result. For a path the key also says what is posted in order, so that a result over
/// changes may have one.
pub(crate) fn channel(
    file: &SqlFile,
    header: &Header,
    mode: ResultMode,
    reads_changes: bool,
    source_tables: Vec<String>,
) -> Result<(ResultMode, Channel), SqlError> {
    let Way::Rest { sends, payload } = &header.way else { return Ok((mode, Channel::Table)) };
    if reads_changes && *sends != Sends::Changes {
        let message = "reads changes, each of which is sent: drop the `-- sends:` line, or read \
                       current tables";
        return Err(file.error(None, message));
    }
    let order = match &mode {
        ResultMode::Keyed { key } => key.clone(),
        ResultMode::Append => Vec::new(),
    };
    let mode = if reads_changes { ResultMode::Append } else { mode };
    let (sends, payload) = (*sends, payload.clone());
    Ok((mode, Channel::Rest(RestChannel { order, sends, payload, source_tables })))
}
