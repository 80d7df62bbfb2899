//! What types of columns do to texts: whether one is read back as it was written, and which of them count as equal.

use tokio_postgres::types::Type;

/// Whether a text comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextKeeping {
    /// As it was written.
    Exact,
    /// As another text of the same value, such as `DE` for `DE  ` or `1 day` for `24:00:00`.
    Rewritten,
    /// Without a part of it, and without a word.
    Cut,
}

/// A type of the catalog, domains taken off.
#[derive(Debug, Clone)]
pub(crate) struct BaseType {
    pub(crate) oid: u32,
    pub(crate) name: String,
    pub(crate) is_enum: bool,
}

impl BaseType {
    pub(crate) fn keeping(&self) -> TextKeeping {
        match Type::from_oid(self.oid) {
            Some(Type::TEXT | Type::VARCHAR | Type::JSON | Type::XML) => TextKeeping::Exact,
            Some(Type::NAME | Type::CHAR | Type::MONEY) => TextKeeping::Cut,
            Some(_) => TextKeeping::Rewritten,
            // Of an extension or a user.
            None if self.is_enum || self.name == "citext" => TextKeeping::Exact,
            None => TextKeeping::Rewritten,
        }
    }

    /// How its equality differs from that of texts, so that two keys here would be one there; `collation` is one that takes
    /// different texts for equal.
    pub(crate) fn equality(&self, collation: Option<&str>) -> Option<String> {
        if let Some(collation) = collation {
            return Some(format!("the collation {collation} takes different texts for equal"));
        }
        match Type::from_oid(self.oid) {
            Some(Type::TEXT | Type::VARCHAR) => None,
            Some(Type::BPCHAR) => Some("blanks at the end do not count".to_owned()),
            Some(Type::JSON | Type::XML) => Some("the type has no equality".to_owned()),
            Some(Type::NAME | Type::CHAR) => Some("long texts are cut off".to_owned()),
            None if self.is_enum => None,
            None if self.name == "citext" => Some("upper and lower case are equal".to_owned()),
            Some(_) | None => Some("one value has different texts".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(known: Type) -> BaseType {
        BaseType { oid: known.oid(), name: known.name().to_owned(), is_enum: false }
    }

    fn own(name: &str) -> BaseType {
        BaseType { oid: 1 << 20, name: name.to_owned(), is_enum: false }
    }

    #[test]
    fn only_types_of_plain_text_keep_it() {
        for exact in [of(Type::TEXT), of(Type::VARCHAR), of(Type::JSON), own("citext")] {
            assert_eq!(exact.keeping(), TextKeeping::Exact, "{}", exact.name);
        }
        let rewritten = [Type::BPCHAR, Type::JSONB, Type::INTERVAL, Type::INET, Type::TEXT_ARRAY];
        for known in rewritten.map(of) {
            assert_eq!(known.keeping(), TextKeeping::Rewritten, "{}", known.name);
        }
        for known in [Type::NAME, Type::CHAR, Type::MONEY].map(of) {
            assert_eq!(known.keeping(), TextKeeping::Cut, "{}", known.name);
        }
        assert_eq!(own("hstore").keeping(), TextKeeping::Rewritten);
        assert_eq!(BaseType { is_enum: true, ..own("mood") }.keeping(), TextKeeping::Exact);
    }

    #[test]
    fn keys_are_equal_as_texts_are_or_it_is_said_how() {
        assert_eq!(of(Type::TEXT).equality(None), None);
        assert_eq!(BaseType { is_enum: true, ..own("mood") }.equality(None), None);
        for (known, why) in [
            (of(Type::BPCHAR), "blanks"),
            (own("citext"), "case"),
            (of(Type::JSON), "no equality"),
            (of(Type::UUID), "different texts"),
        ] {
            let said = known.equality(None).unwrap();
            assert!(said.contains(why), "{said}");
        }
        let said = of(Type::TEXT).equality(Some("ci")).unwrap();
        assert!(said.contains("the collation ci"), "{said}");
    }
}
