//! Dead letters with their payloads: as many at a time as memory takes, and large payloads in pieces.

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::store::{LIMIT, LetterFilter, LetterStore, StoredLetter, WHERE, columns, letter};
use crate::sink::SinkError;

/// Bytes of payloads in one page of letters. A letter that alone has more is read in pieces of this size.
const PAGE_BYTES: usize = 4 << 20;

/// Which letters, in an order that leaves no two equal.
pub(super) struct PageQuery<'a> {
    pub(super) doing: &'a str,
    /// A query; parameters as those of [`LetterStore::ask`].
    pub(super) letters: &'a str,
    pub(super) order: &'a str,
    pub(super) filter: Option<&'a LetterFilter>,
    pub(super) more: &'a [&'a (dyn ToSql + Sync)],
}

impl PageQuery<'_> {
    /// The first letters that fit into [`PAGE_BYTES`], and at least one.
    fn sql(&self) -> String {
        let Self { letters, order, .. } = self;
        let columns = columns(&format!("substr(original_payload, 1, {PAGE_BYTES})"));
        format!(
            "SELECT {columns} FROM (\
             SELECT *, sum(octet_length(original_payload)) OVER (ORDER BY {order}) AS page_bytes, \
             row_number() OVER (ORDER BY {order}) AS page_place FROM ({letters}) AS letters) AS page \
             WHERE page_place = 1 OR page_bytes <= {PAGE_BYTES} ORDER BY {order}"
        )
    }
}

impl LetterStore {
    /// Letters with ids above this one, by id: at most `limit`, fewer if they are large, and one at least if there is one.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn after(
        &mut self,
        filter: &LetterFilter,
        id: i64,
        limit: i64,
    ) -> Result<Vec<StoredLetter>, SinkError> {
        let letters = format!(
            "SELECT * FROM {} WHERE {WHERE} AND id > $11::bigint ORDER BY id {LIMIT}",
            self.table
        );
        let query = PageQuery {
            doing: "reading dead letters",
            letters: &letters,
            order: "id",
            filter: Some(filter),
            more: &[&limit, &id],
        };
        self.page(&query).await
    }

    /// The first `limit` letters that are not published; fewer if they are large, and one at least if there is one. A payload
    /// of more than [`PAGE_BYTES`] is left out.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn unpublished(&mut self, limit: i64) -> Result<Vec<StoredLetter>, SinkError> {
        let letters = format!(
            "SELECT * FROM {} WHERE published_at IS NULL AND pipeline = $1 ORDER BY id LIMIT $2",
            self.table
        );
        let doing = "reading dead letters to publish";
        let (filter, more) = (None, &[&limit as &(dyn ToSql + Sync)]);
        let query = PageQuery { doing, letters: &letters, order: "id", filter, more };
        let mut letters = self.begin_page(&query).await?;
        for letter in letters.iter_mut().filter(|letter| letter.is_begun()) {
            letter.payload = Bytes::new();
        }
        Ok(letters)
    }

    /// The first letters of a query, whole.
    pub(super) async fn page(
        &mut self,
        query: &PageQuery<'_>,
    ) -> Result<Vec<StoredLetter>, SinkError> {
        let mut letters = Vec::new();
        for letter in self.begin_page(query).await? {
            letters.extend(self.with_rest(query.doing, letter).await?);
        }
        Ok(letters)
    }

    /// The first letters of a query; of a large payload its first bytes.
    async fn begin_page(&mut self, query: &PageQuery<'_>) -> Result<Vec<StoredLetter>, SinkError> {
        let PageQuery { doing, filter, more, .. } = *query;
        self.ask(doing, &query.sql(), filter, more, letter).await
    }

    /// `None` if the letter is gone meanwhile.
    async fn with_rest(
        &mut self,
        doing: &str,
        letter: StoredLetter,
    ) -> Result<Option<StoredLetter>, SinkError> {
        if !letter.is_begun() {
            return Ok(Some(letter));
        }
        let sql = format!(
            "SELECT substr(original_payload, $3::int, {PAGE_BYTES}) FROM {} \
             WHERE (pipeline = $1 OR pipeline IS NULL) AND id = $2",
            self.table
        );
        let mut payload = BytesMut::with_capacity(letter.payload_bytes);
        payload.put_slice(&letter.payload);
        while payload.len() < letter.payload_bytes {
            // Postgres counts from 1.
            let from = i32::try_from(payload.len() + 1).unwrap_or(i32::MAX);
            let read = |row: &Row| row.try_get::<_, Vec<u8>>(0);
            let pieces = self.ask(doing, &sql, None, &[&letter.id, &from], read).await?;
            let Some(piece) = pieces.first().filter(|piece| !piece.is_empty()) else {
                return Ok(None);
            };
            payload.put_slice(piece);
        }
        Ok(Some(StoredLetter { payload: payload.freeze(), ..letter }))
    }
}

impl StoredLetter {
    /// Whether the payload has more bytes than those that are here.
    fn is_begun(&self) -> bool {
        self.payload.len() < self.payload_bytes
    }
}
