//! Ends a login in which a server that was not verified asks for the password in clear text.

/// The message type of requests for authentication, and two of its codes.
const AUTHENTICATION: u8 = b'R';
const OK: u32 = 0;
const CLEAR_TEXT_PASSWORD: u32 = 3;
/// Type, length and code.
const HEAD: usize = 9;
/// The length counts itself and the code.
const LENGTH_OF_CODE: usize = 8;

/// Reads along what a server sends until the login is done.
///
/// Source: PostgreSQL documentation, "Message Formats".
#[derive(Debug, Clone, Default)]
pub(super) enum LoginGuard {
    /// The server was verified, or is on this machine; or the login is done.
    #[default]
    Off,
    On(Position),
}

/// Where in the stream of messages the next byte is.
#[derive(Debug, Clone, Default)]
pub(super) struct Position {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    filled: usize,
    /// Bytes that are left of the message.
    rest: usize,
}

/// The server asks for the password in clear text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClearTextAsked;

impl LoginGuard {
    pub(super) fn on() -> Self {
        Self::On(Position::default())
    }

    /// Takes the next bytes, however they are cut.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), ClearTextAsked> {
        while let Self::On(position) = self
            && let Some((first, after)) = bytes.split_first()
        {
            if position.rest > 0 {
                let skipped = position.rest.min(bytes.len());
                position.rest -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            bytes = after;
            match position.push(*first) {
                Some(CLEAR_TEXT_PASSWORD) => return Err(ClearTextAsked),
                Some(OK) => *self = Self::Off,
                Some(_) | None => {}
            }
        }
        Ok(())
    }
}

impl Position {
    /// The code of a request for authentication, with its last byte.
    fn push(&mut self, byte: u8) -> Option<u32> {
        self.head[self.filled] = byte;
        self.filled += 1;
        let [kind, length @ .., _, _, _, _] = self.head;
        if self.filled < HEAD - 4 {
            return None;
        }
        let length = u32::from_be_bytes(length) as usize;
        let has_code = kind == AUTHENTICATION && length >= LENGTH_OF_CODE;
        if has_code && self.filled < HEAD {
            return None;
        }
        self.rest = length.saturating_sub(self.filled - 1);
        self.filled = 0;
        let [.., a, b, c, d] = self.head;
        has_code.then(|| u32::from_be_bytes([a, b, c, d]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    fn authentication(code: u32, more: &[u8]) -> Vec<u8> {
        message(AUTHENTICATION, &[&code.to_be_bytes()[..], more].concat())
    }

    fn in_pieces(stream: &[u8], size: usize) -> Result<(), ClearTextAsked> {
        let mut guard = LoginGuard::on();
        stream.chunks(size).try_for_each(|piece| guard.read(piece))
    }

    #[test]
    fn a_request_for_clear_text_is_seen_however_the_bytes_are_cut() {
        let notice = message(b'N', b"SNOTICE\0\0");
        let asked = [notice.clone(), authentication(CLEAR_TEXT_PASSWORD, &[])].concat();
        let sasl = authentication(10, b"SCRAM-SHA-256\0\0");
        let late = [sasl.clone(), asked.clone()].concat();
        for size in 1..=late.len() {
            assert_eq!(in_pieces(&asked, size), Err(ClearTextAsked));
            assert_eq!(in_pieces(&late, size), Err(ClearTextAsked));
        }
        let fine = [notice, sasl, authentication(OK, &[]), asked].concat();
        for size in 1..=fine.len() {
            assert_eq!(in_pieces(&fine, size), Ok(()), "after the login it is a row or a bug");
        }
    }

    #[test]
    fn other_ways_to_log_in_pass() {
        let md5 = authentication(5, b"salt");
        let empty = message(b'R', &[]);
        assert_eq!(in_pieces(&[md5, empty, message(b'E', b"no")].concat(), 3), Ok(()));
    }
}
