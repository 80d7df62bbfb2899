//! The first frame of a connection decides whether there is a session.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::context::SessionContext;
use super::error::SessionError;
use crate::codec::client_ctrl::{Login, Welcome};
use crate::codec::frame::{self, Decoded, Response, protocol};
use crate::core::Client;

const LOGIN_LIMIT: Duration = Duration::from_secs(10);
/// A refused client closes the connection itself, after it has read why.
const REFUSED_LINGER: Duration = Duration::from_secs(2);
const MAX_LOGIN_FRAME: usize = 64 * 1024;
/// For clients that do not say how often they will send a keep-alive.
const DEFAULT_SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Missed keep-alives before a client counts as dead.
const MISSED_KEEP_ALIVES: u32 = 4;
const MIN_SILENCE_LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Accepted {
    pub(super) connection: u64,
    pub(super) name: String,
    pub(super) user: String,
    /// Without a byte for this long the client is dead.
    pub(super) silence_limit: Duration,
}

/// Reads the login and answers it.
pub(super) async fn run(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    context: &SessionContext,
    notify: &Arc<Notify>,
) -> Result<Accepted, SessionError> {
    let read = timeout(LOGIN_LIMIT, read_login(stream, buffer)).await;
    let (login, tag) = read.map_err(|_| SessionError::Silent(LOGIN_LIMIT))??;
    let client = match check(&login, context) {
        Ok(client) => client,
        Err(response) => {
            let user = &login.user;
            warn!(%user, client = %login.client_name, reason = response.text, "login refused");
            return refuse(stream, tag, response).await;
        }
    };
    let (name, user) = (client.name.clone(), client.user.clone());
    let Some(connection) = register(context, client, notify) else {
        let response = Response::new(503, "Too Many Clients");
        warn!(client = %name, limit = context.max_clients, "login refused: too many clients");
        return refuse(stream, tag, response).await;
    };
    let welcome = Welcome {
        client_name: &name,
        vpn: &login.vpn,
        user_id: &login.user_id,
        connection,
        max_message_size: context.max_message_size as u32,
    };
    let mut answer = Vec::with_capacity(512);
    welcome.put(&mut answer, tag);
    context.hub.lock().answer(connection, &answer);
    let silence_limit = login.keep_alive_seconds.map_or(DEFAULT_SILENCE_LIMIT, |seconds| {
        let interval = Duration::from_secs(u64::from(seconds.min(3600)));
        if interval.is_zero() {
            DEFAULT_SILENCE_LIMIT
        } else {
            (interval * MISSED_KEEP_ALIVES).max(MIN_SILENCE_LIMIT)
        }
    });
    Ok(Accepted { connection, name, user, silence_limit })
}

async fn read_login(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<(Login, Option<[u8; 3]>), SessionError> {
    loop {
        if let Decoded::Frame { frame, consumed, .. } = frame::decode(buffer, MAX_LOGIN_FRAME)? {
            let missing = crate::codec::CodecError::Missing { what: "login" };
            if frame.protocol() != protocol::CLIENT_CTRL || frame.is_oversize {
                return Err(missing.into());
            }
            let login = Login::decode(&frame)?.ok_or(missing)?;
            let tag = frame.correlation_tag()?;
            buffer.advance(consumed);
            return Ok((login, tag));
        }
        if stream.read_buf(buffer).await.map_err(SessionError::Network)? == 0 {
            return Err(SessionError::Closed);
        }
    }
}

fn check(login: &Login, context: &SessionContext) -> Result<Client, Response> {
    let mut client = Client {
        name: login.client_name.clone(),
        user: login.user.clone(),
        provision: true,
        consume: true,
        publish: true,
    };
    if client.name.is_empty() {
        client.name = format!("unnamed-{:016x}", rand::random::<u64>());
    }
    if context.users.is_empty() {
        return Ok(client);
    }
    let unauthorized = Response::new(401, "Unauthorized");
    let user = context.users.get(&login.user).ok_or(unauthorized)?;
    if !login.is_basic || !user.password.matches(&login.password) {
        return Err(unauthorized);
    }
    (client.provision, client.consume, client.publish) =
        (user.provision, user.consume, user.publish);
    Ok(client)
}

/// `None` if there are too many clients already.
fn register(context: &SessionContext, client: Client, notify: &Arc<Notify>) -> Option<u64> {
    let mut core = context.hub.lock();
    let is_full = core.connection_count() >= context.max_clients;
    if is_full && !core.has_client(&client.name) {
        return None;
    }
    let connection = core.connect(client, Arc::clone(notify));
    context.hub.unlock(core);
    Some(connection)
}

async fn refuse(
    stream: &mut TcpStream,
    tag: Option<[u8; 3]>,
    response: Response,
) -> Result<Accepted, SessionError> {
    let mut answer = Vec::new();
    let params = frame::response_params(tag, Some(response));
    frame::put_frame(&mut answer, protocol::CLIENT_CTRL, &params, &[]);
    stream.write_all(&answer).await.map_err(SessionError::Network)?;
    let mut rest = [0; 1024];
    let until_closed = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    // Time-out or not, the connection ends here.
    let _ = timeout(REFUSED_LINGER, until_closed).await;
    Err(SessionError::Refused)
}
