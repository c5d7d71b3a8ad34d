//! Questions to resolvers that answer, are silent, refuse, lie or cut.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// What a resolver does with a question.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Answers,
    IsSilent,
    /// Answers only names below `good.`
    AnswersGood,
    Fails,
    /// Answers something else first: another id, then another question.
    Lies,
    /// Cuts what it sends in datagrams.
    Cuts,
    /// Answers nothing but this code to EDNS.
    KnowsNoEdns(ResponseCode),
    /// The same without repeating the question.
    KnowsNoEdnsAndSaysLittle,
    /// Sends far more than it was asked for, and does not say so.
    SaysMuch,
    /// Sends records that cannot be read beside a good one.
    IsOdd,
}

/// The same message with further records, each of a section, of the class IN and the root's.
fn with(message: &Message, records: &[(usize, u16, &[u8])]) -> Vec<u8> {
    let mut bytes = message.to_vec().expect("can be written");
    for (section, kind, data) in records {
        let count = 6 + 2 * section + 1;
        bytes[count] += 1;
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 60]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(*data);
    }
    bytes
}

/// Resolvers on 127.0.0.2, 127.0.0.3, … at one port, and a forwarder that knows them.
struct Lab {
    forwarder: Forwarder,
    asked: Vec<Arc<AtomicUsize>>,
    dir: tempfile::TempDir,
}

fn answer(asked: &Message, last: u8) -> Message {
    let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_query(asked.queries[0].clone());
    let name = asked.queries[0].name().clone();
    answer.add_answer(Record::from_rdata(name, 60, RData::A(A([198, 51, 100, last].into()))));
    answer
}

async fn over_datagrams(socket: UdpSocket, manner: Manner, last: u8, count: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        count.fetch_add(1, Ordering::SeqCst);
        let asked = Message::from_vec(&buffer[..len]).expect("a query");
        let mut good = answer(&asked, last);
        let odd = match manner {
            Manner::SaysMuch => {
                Some(with(&good, &[(0, 16, &[[200].as_slice(), &[b'x'; 200]].concat().repeat(15))]))
            }
            // A text of length 0, an alias that leads nowhere, text that overruns, an address that is too long, and a type
            // that nobody knows.
            Manner::IsOdd => Some(with(
                &good,
                &[
                    (0, 16, b""),
                    (2, 5, &[0xff, 0xff]),
                    (2, 16, b"\x09short"),
                    (2, 1, &[0; 5]),
                    (2, 0xff00, b"?"),
                ],
            )),
            _ => None,
        };
        if let Some(bytes) = odd {
            socket.send_to(&bytes, from).await.expect("is sent");
            continue;
        }
        let answers = match manner {
            Manner::IsSilent => vec![],
            Manner::AnswersGood if !asked.queries[0].name().to_string().ends_with(".good.") => vec![],
            Manner::Answers | Manner::AnswersGood => vec![good],
            Manner::Fails => {
                good.answers.clear();
                good.metadata.response_code = ResponseCode::ServFail;
                vec![good]
            }
            Manner::KnowsNoEdns(code) if asked.edns.is_some() => {
                good.answers.clear();
                good.metadata.response_code = code;
                vec![good]
            }
            Manner::KnowsNoEdnsAndSaysLittle if asked.edns.is_some() => {
                (good.answers, good.queries) = (Vec::new(), Vec::new());
                good.metadata.response_code = ResponseCode::FormErr;
                vec![good]
            }
            Manner::KnowsNoEdns(_) | Manner::KnowsNoEdnsAndSaysLittle => vec![good],
            Manner::SaysMuch | Manner::IsOdd => vec![],
            Manner::Cuts => {
                good.answers.clear();
                good.metadata.truncation = true;
                vec![good]
            }
            Manner::Lies => {
                let (mut id, mut question) = (answer(&asked, 66), answer(&asked, 66));
                id.metadata.id ^= 1;
                question.queries[0].set_query_type(RecordType::AAAA);
                vec![id, question, good]
            }
        };
        for answer in answers {
            socket.send_to(&answer.to_vec().expect("can be written"), from).await.expect("is sent");
        }
    }
}

async fn over_streams(listener: TcpListener, last: u8) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut query = vec![0; stream.read_u16().await.expect("a length").into()];
        stream.read_exact(&mut query).await.expect("a query");
        let answer = answer(&Message::from_vec(&query).expect("a query"), last).to_vec().expect("is written");
        stream.write_u16(answer.len() as u16).await.expect("is sent");
        stream.write_all(&answer).await.expect("is sent");
    }
}

impl Lab {
    async fn new(manners: &[Manner]) -> Self {
        Self::with_most(manners, 100).await
    }

    /// Asks up to twenty questions, until one has its answer before the next resolver would be asked anyway: a busy machine
    /// may be late with one, a forwarder that waits is with all.
    async fn soon(&self, expected: u8) {
        for number in 0..20 {
            let begun = Instant::now();
            assert_eq!(self.ask(&format!("soon-{number}.example.")).await, Ok(expected));
            if begun.elapsed() < Duration::from_millis(300) {
                return;
            }
        }
        panic!("it waits");
    }

    async fn with_most(manners: &[Manner], most: usize) -> Self {
        let (mut port, mut asked, mut text) = (0, Vec::new(), String::new());
        for (last, manner) in (2..).zip(manners) {
            let address = IpAddr::from([127, 0, 0, last]);
            let socket = UdpSocket::bind((address, port)).await.expect("binds");
            port = socket.local_addr().expect("is bound").port();
            let listener = TcpListener::bind((address, port)).await.expect("binds");
            let count = Arc::new(AtomicUsize::new(0));
            tokio::spawn(over_datagrams(socket, *manner, last, count.clone()));
            tokio::spawn(over_streams(listener, last));
            asked.push(count);
            text.push_str(&format!("nameserver {address}\n"));
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, text).expect("writes");
        Self { forwarder: Forwarder::with_port(path, most, 100, Some(port)), asked, dir }
    }

    /// The last byte of the address that is answered.
    async fn ask(&self, name: &str) -> Result<u8, NoAnswer> {
        self.ask_from(1, 1, name).await
    }

    /// The same for an endpoint of a network.
    async fn ask_from(&self, network: u8, endpoint: u8, name: &str) -> Result<u8, NoAnswer> {
        let told = self.told_to(network, endpoint, name).await?;
        match told.answers.first().map(|record| &record.data) {
            Some(RData::A(A(address))) => Ok(address.octets()[3]),
            _ => Err(NoAnswer::Nowhere),
        }
    }

    async fn told(&self, name: &str) -> Result<Outside, NoAnswer> {
        self.told_to(1, 1, name).await
    }

    async fn told_to(&self, network: u8, endpoint: u8, name: &str) -> Result<Outside, NoAnswer> {
        let who = (NetworkId::from_bytes([network; 8]), IpAddr::from([10, 0, 0, endpoint]));
        let name: Name = name.parse().expect("a name");
        let query = Query::query(name.clone(), RecordType::A);
        let key = Key { name: name.into(), kind: RecordType::A, dnssec: false, unchecked: false };
        Ok(self.forwarder.ask(who, &query, key).await?.answer)
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}

#[tokio::test]
async fn an_answer_is_asked_for_once_and_then_kept() {
    let lab = Lab::new(&[Manner::Answers]).await;
    for name in ["example.com.", "EXAMPLE.com.", "example.com."] {
        assert_eq!(lab.ask(name).await, Ok(2));
    }
    assert_eq!(lab.asked(), [1]);
}

#[tokio::test]
async fn a_silent_resolver_is_passed_over_soon_and_asked_last_from_then_on() {
    let lab = Lab::new(&[Manner::IsSilent, Manner::Answers]).await;
    assert_eq!(lab.ask("a.example.").await, Ok(3));
    lab.soon(3).await;
    let [silent, other] = lab.asked()[..] else { panic!("two resolvers") };
    assert!(silent < other, "{silent} and {other}");
}

#[tokio::test]
async fn a_resolver_that_fails_is_followed_by_the_next_at_once() {
    let lab = Lab::new(&[Manner::Fails, Manner::Answers]).await;
    lab.soon(3).await;
}

#[tokio::test]
async fn an_answer_to_something_else_is_not_believed() {
    let lab = Lab::new(&[Manner::Lies]).await;
    assert_eq!(lab.ask("a.example.").await, Ok(2));
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_again_over_tcp() {
    let lab = Lab::new(&[Manner::Cuts]).await;
    assert_eq!(lab.ask("a.example.").await, Ok(2));
}

#[tokio::test]
async fn a_resolver_that_does_not_understand_edns_is_asked_again_without() {
    for manner in [
        Manner::KnowsNoEdns(ResponseCode::FormErr),
        Manner::KnowsNoEdns(ResponseCode::NotImp),
        Manner::KnowsNoEdnsAndSaysLittle,
    ] {
        let lab = Lab::new(&[manner]).await;
        assert_eq!(lab.ask("a.example.").await, Ok(2), "{manner:?}");
        assert_eq!(lab.asked(), [2], "{manner:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_longer_than_it_should_be_is_taken_as_it_is() {
    let lab = Lab::new(&[Manner::SaysMuch]).await;
    let told = lab.told("a.example.").await.expect("there is an answer");
    let sent = told.answers.iter().map(|record| record.data.to_string().len()).sum::<usize>();
    assert!(told.answers.len() == 2 && sent > 3000, "{sent} of {}", told.answers.len());
}

#[tokio::test]
async fn what_cannot_be_read_in_an_answer_is_given_on_or_left_out_and_costs_nothing_else() {
    let lab = Lab::new(&[Manner::IsOdd]).await;
    let told = lab.told("a.example.").await.expect("there is an answer");
    let kinds = |records: &[Record]| records.iter().map(|r| u16::from(r.record_type())).collect::<Vec<_>>();
    // The alias could refer to anything.
    assert_eq!((kinds(&told.answers), kinds(&told.additionals)), (vec![1, 16], vec![16, 1, 0xff00]));
    let mut message = Message::new(1, MessageType::Response, OpCode::Query);
    message.add_answers(told.answers).add_additionals(told.additionals);
    let written = message.to_vec().expect("can be written");
    let back = crate::message::Message::read(&written, 10).expect("can be read");
    let data: Vec<_> = back.sections.iter().flatten().map(crate::message::Raw::bytes).collect();
    let expected: [&[u8]; 5] = [&[198, 51, 100, 2], b"", b"\x09short", &[0; 5], b"?"];
    assert_eq!(data, expected);
}

#[tokio::test]
async fn the_same_question_is_under_way_once_however_many_ask() {
    let lab = Lab::new(&[Manner::Answers]).await;
    let all = futures_util::future::join_all((0..50).map(|_| lab.ask("a.example."))).await;
    assert!(all.iter().all(|one| *one == Ok(2)));
    assert_eq!(lab.asked(), [1]);
}

#[tokio::test]
async fn no_more_questions_are_under_way_than_may_be_and_each_ends_in_time() {
    let lab = Lab::with_most(&[Manner::IsSilent], 3).await;
    let begun = Instant::now();
    let names: Vec<String> = (0..10).map(|i| format!("n{i}.example.")).collect();
    let all = futures_util::future::join_all(names.iter().map(|name| lab.ask(name))).await;
    let of = |error| all.iter().filter(|one| **one == Err(error)).count();
    assert_eq!((of(NoAnswer::Silence), of(NoAnswer::Overloaded)), (3, 7));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(lock(&lab.forwarder.0.flights).is_empty());
}

#[tokio::test]
async fn names_that_nobody_answers_take_nothing_from_other_networks_and_endpoints() {
    let lab = Lab::with_most(&[Manner::AnswersGood], 50).await;
    let lab = &lab;
    let flood = async {
        let asked = (0..400).map(|n| async move {
            tokio::time::sleep(Duration::from_millis(5 * n)).await;
            let name = format!("n{n}.silent.");
            lab.ask_from(1, 1, &name).await
        });
        futures_util::future::join_all(asked).await
    };
    let others = async {
        let mut answered = 0;
        for n in 0..40 {
            tokio::time::sleep(Duration::from_millis(40)).await;
            let (network, endpoint) = if n % 2 == 0 { (2, 1) } else { (1, 2) };
            answered += usize::from(lab.ask_from(network, endpoint, &format!("n{n}.good.")).await == Ok(2));
        }
        answered
    };
    let (flood, answered) = tokio::join!(flood, others);
    assert_eq!(answered, 40, "all of the others' questions");
    assert!(flood.contains(&Err(NoAnswer::Overloaded)), "the flood gave way");
    assert_eq!(lock(&lab.forwarder.0.shares).taken(), 0);
}

#[tokio::test]
async fn our_own_servers_are_not_asked_and_neither_is_anybody_for_what_is_ours() {
    let lab = Lab::new(&[Manner::Answers]).await;
    lab.forwarder.set_ours(BTreeSet::new(), vec!["10.10.0.0/24".parse().expect("a subnet")]);
    for name in ["7.0.10.10.in-addr.arpa.", "printer.local.", "LOCALHOST.", "x.onion."] {
        assert_eq!(lab.ask(name).await, Err(NoAnswer::Nowhere), "{name}");
    }
    lab.forwarder.set_ours(BTreeSet::from(["127.0.0.2".parse().expect("an address")]), vec![]);
    assert_eq!(lab.ask("a.example.").await, Err(NoAnswer::Silence));
    assert_eq!(lab.asked(), [0]);
}

#[tokio::test]
async fn another_resolver_is_asked_when_the_configuration_says_so() {
    let lab = Lab::new(&[Manner::Answers, Manner::Answers]).await;
    assert_eq!(lab.ask("a.example.").await, Ok(2));
    std::fs::write(lab.dir.path().join("resolv.conf"), "nameserver 127.0.0.3\n").expect("writes");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(lab.ask("b.example.").await, Ok(3));
    // What the former one said counts no more.
    assert_eq!(lab.ask("a.example.").await, Ok(3));
}
