//! From a frame to the core's method for it.

use tracing::debug;

use crate::codec::CodecError;
use crate::codec::assured::{Request, kind, par};
use crate::codec::frame::{self, Frame, Response, protocol};
use crate::codec::message::Publish;
use crate::core::{Core, OpenPublisher};

const NOT_SUPPORTED: Response = Response::new(400, "Request Not Supported");

/// Handles one frame of a logged-in client.
///
/// # Errors
/// The frame cannot be understood at all; what is understood but not possible gets an answer.
pub(super) fn handle(
    core: &mut Core,
    connection: u64,
    frame: &Frame<'_>,
) -> Result<(), CodecError> {
    match frame.protocol() {
        protocol::MESSAGE => {
            let publish = Publish::decode(frame)?;
            if frame.is_assured() {
                core.publish(connection, &publish, frame.is_oversize);
            } else if !frame.is_oversize {
                core.publish_direct(connection, &publish);
            }
            Ok(())
        }
        protocol::ASSURED_CTRL => assured(core, connection, frame),
        protocol::SMP => core.subscribe(connection, frame.body, frame.correlation_tag()?),
        protocol::KEEP_ALIVE => {
            answer(core, connection, protocol::KEEP_ALIVE, &[]);
            Ok(())
        }
        other => {
            debug!(connection, protocol = other, "request of an unsupported protocol refused");
            let params = frame::response_params(frame.correlation_tag()?, Some(NOT_SUPPORTED));
            answer(core, connection, other, &params);
            Ok(())
        }
    }
}

fn answer(core: &mut Core, connection: u64, protocol: u8, params: &[u8]) {
    let mut bytes = Vec::with_capacity(32);
    frame::put_frame(&mut bytes, protocol, params, &[]);
    core.answer(connection, &bytes);
}

fn assured(core: &mut Core, connection: u64, frame: &Frame<'_>) -> Result<(), CodecError> {
    let request = Request::decode(frame.body)?;
    let tag = frame.correlation_tag()?;
    match request.kind {
        kind::OPEN_PUBLISHER => {
            let open = OpenPublisher {
                version: request.version,
                tag,
                name: request.text(par::FLOW_NAME, "flow name")?.unwrap_or_default().to_owned(),
                last_acked: request.u64(par::LAST_ACKED).unwrap_or(0),
                window: request.window().unwrap_or(u32::from(u8::MAX)),
            };
            core.open_publisher(connection, open);
            Ok(())
        }
        kind::ACK => core.consumer_ack(connection, &request),
        kind::BIND => core.bind(connection, &request, tag),
        kind::UNBIND => core.unbind(connection, &request, tag),
        kind::CREATE => core.create_queue(connection, &request, tag),
        kind::DELETE => core.delete_queue(connection, &request, tag),
        kind::CLOSE_PUBLISHER => {
            core.close_publisher(connection, request.u32(par::FLOW_ID).unwrap_or(0));
            core.refuse(connection, &request, tag, Response::OK);
            Ok(())
        }
        // The client's answer to our own notice.
        kind::FLOW_CHANGE => Ok(()),
        other => {
            debug!(connection, kind = other, "assured-delivery request refused: not supported");
            core.refuse(connection, &request, tag, NOT_SUPPORTED);
            Ok(())
        }
    }
}
