//! Login and its answer (`ClientCtrl`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::frame::{self, Frame, Param, ParamKind, Response, protocol};
use super::{CodecError, text};

const USER_NAME: u8 = 0x06;
const PASSWORD: u8 = 0x07;

mod par {
    pub(super) const SOFTWARE_VERSION: u8 = 0x00;
    pub(super) const SOFTWARE_DATE: u8 = 0x01;
    pub(super) const PLATFORM: u8 = 0x02;
    pub(super) const USER_ID: u8 = 0x03;
    pub(super) const CLIENT_NAME: u8 = 0x05;
    pub(super) const VPN: u8 = 0x06;
    pub(super) const P2P_TOPIC: u8 = 0x08;
    pub(super) const CAPABILITIES: u8 = 0x09;
    pub(super) const VIRTUAL_ROUTER: u8 = 0x0a;
    pub(super) const ROUTER: u8 = 0x0c;
    pub(super) const AUTH_SCHEME: u8 = 0x11;
    pub(super) const MORE_CAPABILITIES: u8 = 0x13;
    pub(super) const KEEP_ALIVE_SECONDS: u8 = 0x18;
}

/// Clients take a change of this name as a fail-over to another broker, so it never changes.
pub(crate) const VIRTUAL_ROUTER_NAME: &str = "v:tidemark";

/// 28 booleans, most significant bit first. Set: guaranteed consume and publish, browsing, temporary
/// endpoints, endpoint management, queue subscriptions, subscription manager, flow change
/// updates, discard behaviour, endpoint error id, negative settlement, long parameters.
const CAPABILITY_BITS: [u8; 5] = [28, 0b0011_1110, 0b0101_0001, 0b0100_0000, 0b1110_0000];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) client_name: String,
    pub(crate) vpn: String,
    pub(crate) user_id: Vec<u8>,
    pub(crate) keep_alive_seconds: Option<u32>,
    /// False for certificate, Kerberos or token logins, which this broker does not know.
    pub(crate) is_basic: bool,
}

impl Login {
    /// Reads a login or update frame; `None` if the frame is an update (type 1).
    pub(crate) fn decode(frame: &Frame<'_>) -> Result<Option<Self>, CodecError> {
        let Some((&[_, kind, ..], mut rest)) = frame.body.split_first_chunk::<6>() else {
            return Err(CodecError::Truncated { what: "login" });
        };
        if kind != 0 {
            return Ok(None);
        }
        let mut login = Self {
            user: String::new(),
            password: String::new(),
            client_name: String::new(),
            vpn: String::new(),
            user_id: Vec::new(),
            keep_alive_seconds: None,
            is_basic: true,
        };
        for param in frame.params() {
            match param? {
                Param { kind: ParamKind::Standard(USER_NAME), value, .. } => {
                    login.user = decode_base64(value, "user name")?;
                }
                Param { kind: ParamKind::Standard(PASSWORD), value, .. } => {
                    login.password = decode_base64(value, "password")?;
                }
                _ => {}
            }
        }
        while !rest.is_empty() {
            let (kind, value, after) = split_param(rest)?;
            login.apply(kind, value)?;
            rest = after;
        }
        Ok(Some(login))
    }

    fn apply(&mut self, kind: u8, value: &[u8]) -> Result<(), CodecError> {
        match kind {
            par::USER_ID => self.user_id = value.to_vec(),
            par::CLIENT_NAME => self.client_name = text(value, "client name")?.to_owned(),
            par::VPN => self.vpn = text(value, "message VPN")?.to_owned(),
            par::AUTH_SCHEME => self.is_basic = value.iter().all(|byte| *byte == 0),
            par::KEEP_ALIVE_SECONDS => {
                self.keep_alive_seconds = value.try_into().ok().map(u32::from_be_bytes);
            }
            _ => {}
        }
        Ok(())
    }
}

fn decode_base64(value: &[u8], what: &'static str) -> Result<String, CodecError> {
    let value: Vec<u8> = value.iter().copied().take_while(|byte| *byte != 0).collect();
    let bytes = STANDARD.decode(value).map_err(|_| CodecError::Text { what })?;
    String::from_utf8(bytes).map_err(|_| CodecError::Text { what })
}

fn split_param(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), CodecError> {
    let short = CodecError::Truncated { what: "login parameter" };
    let Some((&[kind, a, b, c, d], _)) = bytes.split_first_chunk::<5>() else { return Err(short) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < 5 || length > bytes.len() {
        return Err(short);
    }
    Ok((kind & 0x7f, &bytes[5..length], &bytes[length..]))
}

/// What the login answer tells the client about itself and this broker.
pub(crate) struct Welcome<'a> {
    pub(crate) client_name: &'a str,
    pub(crate) vpn: &'a str,
    pub(crate) user_id: &'a [u8],
    pub(crate) connection: u64,
    pub(crate) max_message_size: u32,
}

impl Welcome<'_> {
    /// The topic below which the client's private inbox lives.
    fn p2p_topic(&self) -> String {
        let Self { connection, client_name, .. } = self;
        format!("#P2P/{VIRTUAL_ROUTER_NAME}/{connection:08x}/{client_name}/#")
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>, tag: Option<[u8; 3]>) {
        let mut body = vec![1, 0, 0, 0, 0, 0];
        put_text(&mut body, par::SOFTWARE_VERSION, "10.4.0.0");
        put_text(&mut body, par::SOFTWARE_DATE, "Jan  1 2024 00:00:00");
        put_text(&mut body, par::PLATFORM, "Tidemark development broker");
        put_param(&mut body, par::CAPABILITIES, &self.capabilities());
        let mut more = CAPABILITY_BITS.to_vec();
        // Item 4: versions 1 to 3 of the assured-delivery control protocol.
        put_param(&mut more, 4, &[1, 3]);
        put_param(&mut body, par::MORE_CAPABILITIES, &more);
        put_text(&mut body, par::VIRTUAL_ROUTER, VIRTUAL_ROUTER_NAME);
        put_text(&mut body, par::P2P_TOPIC, &self.p2p_topic());
        put_text(&mut body, par::VPN, if self.vpn.is_empty() { "default" } else { self.vpn });
        put_text(&mut body, par::ROUTER, "tidemark");
        put_text(&mut body, par::CLIENT_NAME, self.client_name);
        put_param(&mut body, par::USER_ID, self.user_id);
        let length = (body.len() as u32).to_be_bytes();
        body[2..6].copy_from_slice(&length);
        let params = frame::response_params(tag, Some(Response::OK));
        frame::put_frame(out, protocol::CLIENT_CTRL, &params, &body);
    }

    fn capabilities(&self) -> Vec<u8> {
        let mut value = CAPABILITY_BITS.to_vec();
        put_param(&mut value, 0, &1000_u32.to_be_bytes());
        put_param(&mut value, 1, &[0]);
        put_param(&mut value, 2, &self.max_message_size.to_be_bytes());
        put_param(&mut value, 3, &self.max_message_size.to_be_bytes());
        value
    }
}

fn put_param(body: &mut Vec<u8>, kind: u8, value: &[u8]) {
    body.push(kind);
    body.extend_from_slice(&(value.len() as u32 + 5).to_be_bytes());
    body.extend_from_slice(value);
}

fn put_text(body: &mut Vec<u8>, kind: u8, value: &str) {
    let mut with_nul = value.as_bytes().to_vec();
    with_nul.push(0);
    put_param(body, kind, &with_nul);
}
