//! The shared words: what a message is, what a change is, and how a batch of changes looks in Arrow.
//!
//! Nothing here does I/O. Every other component speaks in these values; none of them imports another.
//!
//! | word | what it is | type |
//! |---|---|---|
//! | offset | names a message of the queue, stable over redelivery | [`Offset`], [`OffsetSet`], [`KnownOffsets`] |
//! | position | the place of a change in the one order in which changes apply | [`Position`], [`Generations`] |
//! | epoch | the number of a micro-batch | [`Epoch`] |
//! | changelog | the changes of one table within an epoch, as rows with an operation | [`Changelog`] |
//! | delta | how the current rows of a table differ from before | [`TableDelta`] |
//! | result | what a transform maintains, and how it changed in an epoch | [`ResultTable`], [`ResultChanges`] |
//! | commit | what an epoch writes, in one transaction | [`EpochCommit`] |
//! | ledger | what that transaction writes about the epoch | [`LedgerEntry`], [`LedgerPosition`] |
//! | landing | the append-only history of a source table | [`Landing`] |
//! | dead letter | an event that could not be processed, kept with its bytes | [`DeadLetter`] |
//! | replay | a dead letter that is processed again | [`ReplayRequest`], [`Replayed`] |
//! | registry | what events have taught about tables and columns | [`SchemaChange`] |
//! | temporal join | a row beside the row of another table as it was at the time | [`TemporalJoin`] |

mod changelog;
mod dead_letters;
mod delta;
mod epoch;
mod key_bytes;
mod offsets;
mod operator_state;
mod result;
pub mod scalar;
mod schema;
mod temporal_join;
mod window;

pub use changelog::{Cell, Changelog, Operation, Truncation};
pub use dead_letters::{
    DeadLetter, ErrorType, LeftOutReason, LeftOutRows, LetterStatus, Mending, Phase,
    RefusedRequest, RefusedResultRow, ReplayOutcome, ReplayRequest, Replayed, Resent, ResultLetter,
    RowLetter, cell_text, row_json, rows_of, texts_of,
};
pub use delta::{CurrentRows, Found, Lookup, TableDelta};
pub use epoch::{
    AcceptedLoss, CommittedEpoch, Epoch, EpochCommit, EpochLog, LedgerEntry, LedgerPosition,
    LostEpochs, RecordedEpoch,
};
pub use key_bytes::KeyBytes;
pub use offsets::{
    EventId, Generation, Generations, Knowledge, KnownOffsets, Offset, OffsetParseError, OffsetSet,
    Position, PositionError, Scn,
};
pub use operator_state::{
    KeptOperators, KeptSpace, SpaceId, StateSpace, StateSpaces, StateWrites, Upkeep, VisitPair,
};
pub use result::{
    Channel, ColumnSet, Payload, PriorRow, RestChannel, ResultChanges, ResultMode, ResultTable,
    Sends,
};
pub use schema::{
    CHANGE_ID, Column, FieldType, GroupBound, Landing, Late, LearnedColumns, MAX_KEY_COLUMNS,
    MAX_NAME, NewColumns, PromotedColumn, Reference, SchemaChange, SchemaChangeKind, SeenType,
    SourceTable, SureType, SystemColumn, Table, TableOptions, TableOrigin, Truncate, WrittenAs,
    column_name, discovered_tables, extract, landing_columns, sql_type, take_out_promoted,
    with_sql_types,
};
pub use temporal_join::{TemporalJoin, key_name};
pub use tidemark_solace::{Message, Receipt};
pub use window::Window;
