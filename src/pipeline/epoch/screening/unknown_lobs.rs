//! Rows that got a new key, with unchanged LOBs whose values under the old key are not known: their events are
//! dead letters, because a NULL in their place would be wrong and look right.

use std::collections::HashMap;

use crate::decode::Decoded;
use crate::model::{ErrorType, Message, Offset, Table};
use crate::pipeline::epoch::diversion::{Diversion, take_out};
use crate::pipeline::error::PipelineError;
use crate::state::StateStores;

/// Takes them out of the epoch's changes. To be asked when all rows that the changes need are in memory.
pub(in crate::pipeline::epoch) fn divert(
    stores: &StateStores,
    messages: &[Message],
    decoded: &mut Decoded,
) -> Result<(), PipelineError> {
    loop {
        let mut reasons: HashMap<Offset, Diversion> = HashMap::new();
        for changelog in &decoded.changes {
            for (offset, column) in stores.unknown_cells(changelog)? {
                reasons.entry(offset).or_insert_with(|| unknown(&changelog.table, column));
            }
        }
        if reasons.is_empty() {
            return Ok(());
        }
        // Without them later rows may lack the value that they had.
        take_out(decoded, messages, reasons);
    }
}

fn unknown(table: &Table, column: usize) -> Diversion {
    let (source, column) = (table.source.to_string(), &table.columns[column].name);
    let table = &table.name;
    let message = format!(
        "the event gives a row of table {table} a new key and does not carry its column {column}, which is an \
         unchanged LOB, and the value under the old key is not known: write the column once in the source, as in \
         UPDATE ... SET {column} = {column}, whose event carries it"
    );
    let column = Some(column.clone());
    Diversion { error_type: ErrorType::InvalidKey, message, table: Some(source), column }
}
