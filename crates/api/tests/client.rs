//! The client against a small server: answers, streams, and every kind of failure.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::{convert::Infallible, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sinew_api::{
    Attach, Attached, Client, ClientError, ErrorBody, ErrorCode, EventKind, LogPosition, LogQuery,
    ProtocolFault,
};
use sinew_model::ServiceName;
use tokio::{io::AsyncWriteExt as _, net::UnixListener};

type Body = BoxBody<Bytes, Infallible>;

struct Server {
    directory: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("api.sock")).unwrap();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer)),
                );
            }
        });
        Self { directory, task }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn whole(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    Response::builder().status(status).body(Full::new(text.into()).boxed()).unwrap()
}

/// A body that arrives in these pieces.
fn pieces(pieces: &'static [&'static str]) -> Response<Body> {
    let frames = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
    Response::new(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames))))
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let method = request.method().clone();
    let uri = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(match (method, uri.as_str()) {
        (Method::POST, "/v1/attachments") => {
            let attach: Attach = serde_json::from_slice(&body).unwrap();
            let attached = Attached {
                replica: 3,
                address: Ipv4Addr::new(127, 80, 0, 4),
                env: [("SAID".to_owned(), attach.command)].into(),
            };
            whole(StatusCode::OK, serde_json::to_vec(&attached).unwrap())
        }
        (Method::GET, "/v1/logs?follow=true&service=a&tail=5&from=a/1@9") => pieces(&[
            "{\"service\":\"a\",\"replica\":0,\"te",
            "xt\":\"hi\",\"offset\":3}\n{\"service\":\"a\",\"replica\":1,\"text\":\"ho\"}\n",
        ]),
        (Method::GET, "/v1/events") => pieces(&[
            ": hello\n\ndata: {\"at_ms\":1,\"sequence\":2,\"kind\":\"project\",",
            "\"change\":\"ready\"}\n\n",
        ]),
        (Method::GET, "/v1/metrics") => whole(StatusCode::OK, "sinew_up 1\n"),
        (Method::PATCH, "/v1/services/a") => {
            assert_eq!(body, "{\"replicas\":9}");
            let error = ErrorBody {
                code: ErrorCode::Invalid,
                message: "9 is too many".to_owned(),
                remedy: Some("ask for less".to_owned()),
                field: Some("replicas".to_owned()),
                retryable: false,
            };
            whole(StatusCode::BAD_REQUEST, serde_json::to_vec(&error).unwrap())
        }
        (Method::GET, "/v1/agent") => whole(StatusCode::OK, "{\"version\":1}"),
        _ => whole(StatusCode::BAD_GATEWAY, "what?"),
    })
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

#[tokio::test]
async fn calls_carry_their_body_and_bring_the_answer() {
    let server = Server::start();
    let client = Client::connect(server.socket()).await.unwrap();
    let attach = Attach { service: Some(name("a")), ports: vec![], command: "true".to_owned() };
    let attached = client.attach(&attach).await.unwrap();
    assert_eq!((attached.replica, attached.env["SAID"].as_str()), (3, "true"));
    assert_eq!(client.metrics().await.unwrap(), "sinew_up 1\n");
}

#[tokio::test]
async fn streams_bring_every_item() {
    let server = Server::start();
    let client = Client::connect(server.socket()).await.unwrap();
    let query = LogQuery {
        services: vec![name("a")],
        follow: true,
        tail: Some(5),
        from: vec![LogPosition { service: name("a"), replica: 1, offset: 9 }],
    };
    let lines: Vec<_> = client.logs(&query).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].text.as_str(), lines[0].offset), ("hi", 3));
    assert_eq!((lines[1].text.as_str(), lines[1].replica), ("ho", 1));
    let events: Vec<_> = client.events().await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, EventKind::Project { change: "ready".to_owned() });
}

#[tokio::test]
async fn refusals_and_nonsense_are_told_apart() {
    let server = Server::start();
    let client = Client::connect(server.socket()).await.unwrap();
    let error = client.scale(&name("a"), 9).await.unwrap_err();
    assert_eq!(error.to_string(), "9 is too many");
    assert_eq!(error.remedy().as_deref(), Some("ask for less"));
    assert!(matches!(error, ClientError::Api(body) if body.field.as_deref() == Some("replicas")));

    let error = client.projects().await.unwrap_err();
    assert!(matches!(
        error,
        ClientError::Protocol { fault: ProtocolFault::Status(StatusCode::BAD_GATEWAY), .. }
    ));
    let error = client.agent().await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { fault: ProtocolFault::Json(_), .. }));
    assert!(error.to_string().starts_with("GET /v1/agent: "), "{error}");
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_unreachable() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let error = Client::connect(&socket).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { socket: at, .. } if *at == socket));
    assert!(error.agent_is_away());
    // A stale socket: bound once, nobody listens any more.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(Client::connect(&socket).await.unwrap_err().agent_is_away());
}

#[tokio::test]
async fn an_agent_that_dies_during_a_call_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let begun = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"version\":";
        for answer in ["", "", begun] {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let client = Client::connect(&socket).await.unwrap();
    for _ in 0..2 {
        let error = client.agent().await.unwrap_err();
        assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_socket_of_somebody_else_is_denied() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can become somebody else here.
    }
    let server = Server::start();
    let socket = server.socket();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(server.directory.path(), std::fs::Permissions::from_mode(0o755))
        .unwrap();
    let denied = std::thread::spawn(move || {
        // SAFETY: changes the file-system user of this thread alone, and passes no pointer.
        unsafe { libc::setfsuid(65_534) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Client::connect(socket)).unwrap_err()
    });
    let error = tokio::task::spawn_blocking(|| denied.join().unwrap()).await.unwrap();
    assert!(matches!(error, ClientError::Denied { .. }), "{error:?}");
    assert!(error.remedy().unwrap().contains("group"));
}
