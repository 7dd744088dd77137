//! The server against clients that do everything wrong, each with the answer and the counter it must get.

use super::*;
use axum::routing::{get, post};
use bytes::Bytes;
use std::time::Instant as Wall;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

/// A server with short deadlines; dropping it stops it.
struct Served {
    address: SocketAddr,
    counters: Arc<HttpCounters>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

fn quick() -> Limits {
    Limits {
        connections_max: 8,
        head_deadline: Duration::from_millis(300),
        head_bytes_max: 8 << 10,
        body_deadline: Duration::from_millis(300),
        body_bytes_max: 100_000,
        bodies_bytes_max: 250_000,
        idle_max: Duration::from_millis(600),
        write_deadline: Duration::from_millis(400),
        stop_grace: Duration::from_millis(500),
        lingering_max: 4,
        linger: Duration::from_millis(100),
    }
}

fn served(limits: Limits) -> Served {
    let router = Router::new()
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/hello", get(|| async { "hello" }))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
        .route(
            "/slow",
            post(|_: Bytes| async {
                tokio::time::sleep(Duration::from_secs(20)).await;
                "at last"
            }),
        );
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Arc::new(HttpCounters::new("test"));
    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(listener, limits, Arc::clone(&counters), router, stopped));
    Served { address, counters, stop: Some(stop), task }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `bytes`, reads until the server closes.
    async fn all_of(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        to_end(&mut stream).await
    }

    fn count(&self, count: HttpCount) -> u64 {
        self.counters.get(count)
    }

    async fn comes_to(&self, count: HttpCount, value: u64) {
        let deadline = Wall::now() + Duration::from_secs(5);
        while self.count(count) != value {
            assert!(Wall::now() < deadline, "{count:?} is {}, not {value}", self.count(count));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the server closes in time")
        .expect("and does not reset");
    String::from_utf8_lossy(&answer).into_owned()
}

/// One answer of known length on a connection that stays.
async fn one_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            let length: usize = length.expect("a length").parse().unwrap();
            if body.len() >= length {
                return text;
            }
        }
        let mut some = [0; 4_096];
        let n = stream.read(&mut some).await.unwrap();
        assert!(n > 0, "closed after {text:?}");
        answer.extend_from_slice(&some[..n]);
    }
}

#[tokio::test]
async fn requests_are_answered_one_after_another_on_one_connection() {
    let s = served(quick());
    let mut stream = s.connect().await;
    for i in 0..3 {
        let body = format!("number {i}");
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        assert!(one_answer(&mut stream).await.ends_with(&body));
    }
    let answer = s.all_of(b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(s.count(HttpCount::Requests), 4);
    assert_eq!(s.count(HttpCount::AnswersOk), 3);
    assert_eq!(s.count(HttpCount::AnswersClientError), 1);
    assert_eq!(s.count(HttpCount::BodyBytes), 0, "bodies are let go");
    drop(stream);
    s.comes_to(HttpCount::Open, 0).await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_before_it_is_read_or_as_soon_as_it_shows() {
    let s = served(quick());
    let claimed =
        s.all_of(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\nabc").await;
    assert!(claimed.starts_with("HTTP/1.1 413"), "{claimed}");
    assert!(claimed.contains("connection: close"), "{claimed}");
    let mut chunked =
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..11 {
        chunked.extend_from_slice(format!("{:x}\r\n", 10_000).as_bytes());
        chunked.extend_from_slice(&[b'z'; 10_000]);
        chunked.extend_from_slice(b"\r\n");
    }
    let streamed = s.all_of(&chunked).await;
    assert!(streamed.starts_with("HTTP/1.1 413"), "{streamed}");
    assert_eq!(s.count(HttpCount::BodiesTooLarge), 2);
    assert_eq!(s.count(HttpCount::Requests), 0, "no handler saw them");
    assert_eq!(s.count(HttpCount::BodyBytes), 0);
}

#[tokio::test]
async fn a_body_that_stops_or_crawls_or_ends_early_is_answered_and_counted() {
    let s = served(quick());
    let slow = s.all_of(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nab").await;
    assert!(slow.starts_with("HTTP/1.1 408"), "{slow}");
    s.comes_to(HttpCount::BodyTimeouts, 1).await;

    let mut stream = s.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        .await
        .unwrap();
    let crawl = async {
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let started = Wall::now();
    crawl.await;
    assert!(started.elapsed() < Duration::from_secs(3), "a byte now and then buys no time");
    s.comes_to(HttpCount::BodyTimeouts, 2).await;

    let mut stream = s.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nab")
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let _ = to_end(&mut stream).await;
    s.comes_to(HttpCount::BodiesIncomplete, 1).await;

    let bad = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n";
    let answer = s.all_of(bad).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    s.comes_to(HttpCount::BodiesIncomplete, 2).await;
    assert_eq!(s.count(HttpCount::Requests), 0);
}

#[tokio::test]
async fn all_bodies_together_have_a_bound_too() {
    let s = served(Limits { body_deadline: Duration::from_secs(5), ..quick() });
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut stream = s.connect().await;
        let head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream.write_all(&vec![b'h'; 99_000]).await.unwrap();
        holders.push(stream);
    }
    s.comes_to(HttpCount::BodyBytes, 198_000).await;
    let mut third = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n".to_vec();
    third.extend_from_slice(&vec![b'h'; 60_000]);
    let answer = s.all_of(&third).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    assert_eq!(s.count(HttpCount::BodiesNoRoom), 1);
    drop(holders);
    s.comes_to(HttpCount::BodyBytes, 0).await;
}

#[tokio::test]
async fn slow_headers_and_idle_connections_are_closed_each_by_its_own_clock() {
    let s = served(quick());
    let silent = async {
        let mut stream = s.connect().await;
        to_end(&mut stream).await
    };
    let slowloris = async {
        let mut stream = s.connect().await;
        stream.write_all(b"GET /hello HTTP/1.1\r\n").await.unwrap();
        let started = Wall::now();
        let mut n = 0;
        while stream.write_all(format!("x-{n}: y\r\n").as_bytes()).await.is_ok() {
            n += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(started.elapsed() < Duration::from_secs(5), "never closed");
        }
    };
    let idle = async {
        let mut stream = s.connect().await;
        stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(one_answer(&mut stream).await.ends_with("hello"));
        let started = Wall::now();
        assert_eq!(to_end(&mut stream).await, "");
        assert!(started.elapsed() > Duration::from_millis(500), "idle has its own limit");
    };
    let (silent, (), ()) = tokio::join!(silent, slowloris, idle);
    assert!(silent.starts_with("HTTP/1.1 408"), "{silent}");
    s.comes_to(HttpCount::HeadTimeouts, 2).await;
    s.comes_to(HttpCount::IdleClosed, 1).await;
    s.comes_to(HttpCount::Open, 0).await;
}

#[tokio::test]
async fn what_is_not_http_and_what_is_too_much_of_it_is_told_so() {
    let s = served(quick());
    let rubbish =
        s.all_of(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 tls speaks\r\n\r\n").await;
    assert!(rubbish.starts_with("HTTP/1.1 400"), "{rubbish}");
    let mut head = b"GET /hello HTTP/1.1\r\nhost: x\r\n".to_vec();
    for i in 0..2_000 {
        head.extend_from_slice(format!("x-{i}: yyyyyyyyyyyyyyyyyy\r\n").as_bytes());
    }
    let large = s.all_of(&head).await;
    assert!(large.starts_with("HTTP/1.1 431"), "{large}");
    s.comes_to(HttpCount::HeadsInvalid, 1).await;
    s.comes_to(HttpCount::HeadsTooLarge, 1).await;
}

#[tokio::test]
async fn a_client_that_reads_no_answer_is_cut() {
    let s = served(quick());
    let mut stream = s.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    s.comes_to(HttpCount::WriteTimeouts, 1).await;
    s.comes_to(HttpCount::Open, 0).await;
}

#[tokio::test]
async fn connections_above_the_bound_get_a_clear_word() {
    let s = served(Limits { head_deadline: Duration::from_secs(30), ..quick() });
    let mut holders = Vec::new();
    for _ in 0..8 {
        holders.push(s.connect().await);
    }
    s.comes_to(HttpCount::Open, 8).await;
    let refused = s.all_of(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503 Service Unavailable"), "{refused}");
    assert!(refused.ends_with("too many connections are open; try again later"), "{refused}");
    assert_eq!(s.count(HttpCount::Refused), 1);
    drop(holders);
    s.comes_to(HttpCount::Open, 0).await;
    let answer = s.all_of(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn ten_thousand_connections_leave_room_for_who_was_there() {
    let s = served(Limits {
        head_deadline: Duration::from_secs(60),
        idle_max: Duration::from_secs(60),
        ..quick()
    });
    let mut inside = s.connect().await;
    s.comes_to(HttpCount::Open, 1).await;
    let mut holders = Vec::new();
    for _ in 0..7 {
        holders.push(s.connect().await);
    }
    s.comes_to(HttpCount::Open, 8).await;
    let mut told = 0;
    for round in 0..100 {
        let mut crowd = Vec::new();
        for _ in 0..100 {
            crowd.push(s.connect().await);
        }
        s.comes_to(HttpCount::Refused, (round + 1) * 100).await;
        for mut stream in crowd {
            let mut word = [0; 12];
            told +=
                u64::from(stream.read_exact(&mut word).await.is_ok() && word == *b"HTTP/1.1 503");
        }
        if round % 20 == 0 {
            inside.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert!(one_answer(&mut inside).await.ends_with("hello"));
        }
    }
    assert_eq!(told, 10_000, "each was told why");
    assert_eq!(s.count(HttpCount::Accepted), 8);
    assert_eq!(s.count(HttpCount::AcceptErrors), 0);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_at_once_and_slow_handlers_after_the_grace() {
    let mut s = served(quick());
    let mut idle = s.connect().await;
    idle.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(one_answer(&mut idle).await.ends_with("hello"));
    let mut slow = s.connect().await;
    slow.write_all(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na").await.unwrap();
    s.comes_to(HttpCount::InFlight, 1).await;
    let started = Wall::now();
    s.stop.take().map(|stop| stop.send(()));
    assert_eq!(to_end(&mut idle).await, "");
    assert!(started.elapsed() < Duration::from_millis(300), "idle connections do not wait");
    (&mut s.task).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "nor does the server");
    assert!(TcpStream::connect(s.address).await.is_err(), "the port is free");
    assert_eq!(s.count(HttpCount::InFlight), 0);
    assert_eq!(s.count(HttpCount::Open), 0);
}
