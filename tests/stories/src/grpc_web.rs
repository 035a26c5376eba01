//! gRPC-Web, as it is on the wire: what browsers speak, which can't read HTTP's trailers. In: a message. Out: the answer's
//! messages, and the trailers that come behind them in the body.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use prost::Message;
use reqwest::{Response, header::CONTENT_TYPE};
use tokio::time::timeout;

use crate::Visitor;

const BINARY: &str = "application/grpc-web+proto";
/// The flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;
/// How long the next frame may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer that is being read.
pub struct Stream {
    response: Response,
    buffer: Vec<u8>,
    /// How the call ended: once its last frame was read, or else at once, if there is nothing else in the answer.
    pub trailers: Option<BTreeMap<String, String>>,
}

/// Makes a call; `path` as gRPC has it.
///
/// # Errors
///
/// There is no answer, or none in gRPC-Web.
pub async fn call(visitor: &Visitor, path: &str, message: &impl Message) -> Result<Stream> {
    let message = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len())?.to_be_bytes());
    body.extend(message);
    let request = visitor.request(reqwest::Method::POST, path).header(CONTENT_TYPE, BINARY).header("x-grpc-web", "1");
    let response = request.body(body).send().await?;
    ensure!(response.status() == 200, "not gRPC-Web: {response:?}");
    let kind = response.headers().get(CONTENT_TYPE).context("no content-type")?.to_str()?;
    ensure!(kind.starts_with("application/grpc-web"), "not gRPC-Web: {response:?}");
    // An answer that is nothing but an end may say so in its headers.
    let ended = response.headers().contains_key("grpc-status");
    let headers =
        response.headers().iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    let trailers = ended.then(|| headers.collect());
    Ok(Stream { response, buffer: Vec::new(), trailers })
}

/// The one message of an answer that ended well.
///
/// # Errors
///
/// It didn't, or has another number of messages.
pub async fn unary<T: Message + Default>(visitor: &Visitor, path: &str, message: &impl Message) -> Result<T> {
    let mut stream = call(visitor, path, message).await?;
    let answer = stream.next().await?.with_context(|| format!("no message: {:?}", stream.trailers))?;
    ensure!(stream.next::<T>().await?.is_none(), "more than one message");
    ensure!(stream.status() == Some("0"), "{:?}", stream.trailers);
    Ok(answer)
}

impl Stream {
    /// The next message, or none after the last; then the trailers are there.
    ///
    /// # Errors
    ///
    /// The answer breaks off, or a frame is none.
    pub async fn next<T: Message + Default>(&mut self) -> Result<Option<T>> {
        if self.trailers.is_some() {
            return Ok(None);
        }
        let flag = self.take(1).await?[0];
        let length = self.take(4).await?;
        let length = u32::from_be_bytes(length.try_into().ok().context("four bytes")?);
        let frame = self.take(length as usize).await?;
        if flag & TRAILERS == 0 {
            return Ok(Some(T::decode(frame.as_slice())?));
        }
        let lines = String::from_utf8(frame)?;
        let pairs = lines.lines().filter_map(|line| line.split_once(':'));
        self.trailers = Some(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect());
        Ok(None)
    }

    /// Reads all that is left, and forgets it.
    ///
    /// # Errors
    ///
    /// The answer breaks off.
    pub async fn rest(mut self) -> Result<()> {
        while self.next::<()>().await?.is_some() {}
        Ok(())
    }

    /// gRPC's status, once the answer has ended.
    pub fn status(&self) -> Option<&str> {
        self.trailers.as_ref()?.get("grpc-status").map(String::as_str)
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            let chunk = timeout(PATIENCE, self.response.chunk()).await.context("nothing comes any more")??;
            self.buffer.extend(chunk.context("the answer breaks off")?);
        }
        Ok(self.buffer.drain(..length).collect())
    }
}
