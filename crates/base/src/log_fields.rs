//! Log fields as text in which no value can look like another line, or talk to a terminal.

use std::fmt::{self, Write as _};

use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

/// Writes one field: the message as it is, others as `name=value`; control characters are escaped.
pub(crate) fn write(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    write!(Escaping(writer), "{value:?}")
}

/// Passes text on with control characters as `\n`, `\u{1b}` and so on.
struct Escaping<W>(W);

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_can_neither_begin_a_line_nor_colour_the_terminal() {
        let mut text = String::new();
        write!(Escaping(&mut text), "ORDERS\n2026-11-30 ERROR \u{1b}[31mall is lost").unwrap();
        assert_eq!(text, "ORDERS\\n2026-11-30 ERROR \\u{1b}[31mall is lost");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        let mut text = String::new();
        write!(Escaping(&mut text), "größer \"als\" \\ 3 µs").unwrap();
        assert_eq!(text, "größer \"als\" \\ 3 µs");
    }
}
