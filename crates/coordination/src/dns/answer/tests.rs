use super::*;

struct Fixed(Vec<Instance>);

impl Source for Fixed {
    fn instances(&self, service: &str) -> Result<Option<Vec<Instance>>, Error> {
        match service {
            "web" => Ok(Some(self.0.clone())),
            "broken" => Err(Error::NotServing),
            _ => Ok(None),
        }
    }

    fn serial(&self) -> u32 {
        7
    }
}

fn instance(number: u8, address: &str, weight: u32) -> Instance {
    Instance {
        service: "web".to_owned(),
        id: format!("web-{number}"),
        address: address.to_owned(),
        port: 8_000 + u32::from(number),
        weight: Some(weight),
        ..Instance::default()
    }
}

fn few() -> Fixed {
    Fixed(vec![
        instance(1, "10.0.0.1", 1),
        instance(2, "fd00::2", 2),
        instance(3, "db.example", 3),
    ])
}

fn many() -> Fixed {
    let instances = (0..200).map(|number| instance(number, &format!("10.0.0.{number}"), 1));
    Fixed(instances.collect())
}

fn query(name: &str, record_type: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.id = 17;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    query
}

fn bytes(query: &Message, way: Way, source: &Fixed) -> Vec<u8> {
    let zone = Zone::parse("synod.", 5).unwrap();
    answer(&query.to_vec().unwrap(), way, &zone, source).unwrap()
}

fn ask(query: &Message, way: Way, source: &Fixed) -> Message {
    Message::from_vec(&bytes(query, way, source)).unwrap()
}

fn data(records: &[Record]) -> Vec<String> {
    let mut data: Vec<String> = records
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    data.sort();
    data
}

#[test]
fn a_service_has_the_records_of_its_instances() {
    let name = "Web.service.synod.";
    for (record_type, expected) in [
        (RecordType::A, vec!["10.0.0.1"]),
        (RecordType::AAAA, vec!["fd00::2"]),
        (
            RecordType::SRV,
            vec![
                "0 1 8001 web-1.web.service.synod.",
                "0 2 8002 web-2.web.service.synod.",
                "0 3 8003 db.example.",
            ],
        ),
    ] {
        let response = ask(&query(name, record_type), Way::Udp, &few());
        assert_eq!(response.metadata.response_code, ResponseCode::NoError);
        assert!(response.metadata.authoritative && response.metadata.recursion_desired);
        assert!(!response.metadata.recursion_available && !response.metadata.truncation);
        assert_eq!(response.metadata.id, 17);
        assert_eq!(data(&response.answers), expected);
        assert!(response.answers.iter().all(|record| record.ttl == 5));
        assert!(response.authorities.is_empty());
    }
    let response = ask(
        &query("_web._tcp.service.synod.", RecordType::SRV),
        Way::Udp,
        &few(),
    );
    assert_eq!(response.answers.len(), 3);
    assert_eq!(data(&response.additionals), ["10.0.0.1", "fd00::2"]);
    let one = ask(
        &query("web-1.web.service.synod.", RecordType::A),
        Way::Udp,
        &few(),
    );
    assert_eq!(data(&one.answers), ["10.0.0.1"]);
}

#[test]
fn what_is_not_there_comes_with_the_authority() {
    for (name, record_type, code) in [
        ("none.service.synod.", RecordType::A, ResponseCode::NXDomain),
        (
            "web-9.web.service.synod.",
            RecordType::A,
            ResponseCode::NXDomain,
        ),
        ("a.b.c.d.synod.", RecordType::A, ResponseCode::NXDomain),
        (
            "_none._tcp.service.synod.",
            RecordType::SRV,
            ResponseCode::NXDomain,
        ),
        ("web.service.synod.", RecordType::TXT, ResponseCode::NoError),
        (
            "_web._tcp.service.synod.",
            RecordType::A,
            ResponseCode::NoError,
        ),
        ("service.synod.", RecordType::A, ResponseCode::NoError),
        ("synod.", RecordType::A, ResponseCode::NoError),
    ] {
        let response = ask(&query(name, record_type), Way::Udp, &few());
        assert_eq!(response.metadata.response_code, code, "{name}");
        assert!(response.answers.is_empty(), "{name}");
        let expected = ["ns.synod. hostmaster.synod. 7 3600 600 86400 5"];
        assert_eq!(data(&response.authorities), expected, "{name}");
    }
    let origin = ask(&query("synod.", RecordType::SOA), Way::Udp, &few());
    assert_eq!(origin.answers.len(), 1);
}

#[test]
fn what_is_not_answered_is_refused() {
    let code = |query: &Message| ask(query, Way::Udp, &few()).metadata.response_code;
    assert_eq!(
        code(&query("example.com.", RecordType::A)),
        ResponseCode::Refused
    );
    assert_eq!(
        code(&query("broken.service.synod.", RecordType::A)),
        ResponseCode::ServFail
    );
    let mut chaos = query("web.service.synod.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let mut notify = query("web.service.synod.", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(code(&notify), ResponseCode::NotImp);
    let mut none = query("web.service.synod.", RecordType::A);
    none.queries.clear();
    assert_eq!(code(&none), ResponseCode::FormErr);
    let mut newer = query("web.service.synod.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    newer.set_edns(edns);
    let zone = Zone::parse("synod.", 5).unwrap();
    let response = answer(&newer.to_vec().unwrap(), Way::Udp, &zone, &few()).unwrap();
    // The upper bits of BADVERS, 16, are in the OPT record at the end.
    let opt = &response[response.len() - 11..];
    assert_eq!((opt[2], opt[5]), (41, 1), "{response:?}");
}

#[test]
fn garbage_gets_an_error_and_answers_get_none() {
    let zone = Zone::parse("synod.", 5).unwrap();
    let mut garbage = query("web.service.synod.", RecordType::A).to_vec().unwrap();
    garbage.truncate(20);
    let response = answer(&garbage, Way::Udp, &zone, &few()).unwrap();
    let response = Message::from_vec(&response).unwrap();
    assert_eq!(response.metadata.id, 17);
    assert_eq!(response.metadata.response_code, ResponseCode::FormErr);
    let answered = bytes(
        &query("web.service.synod.", RecordType::A),
        Way::Udp,
        &few(),
    );
    assert_eq!(answer(&answered, Way::Udp, &zone, &few()), None);
    for length in 0..HEADER_BYTES {
        assert_eq!(answer(&garbage[..length], Way::Udp, &zone, &few()), None);
    }
}

#[test]
fn a_large_answer_is_cut_to_what_the_client_takes() {
    let asked = query("web.service.synod.", RecordType::A);
    let cut = bytes(&asked, Way::Udp, &many());
    assert!(cut.len() <= 512);
    let cut = Message::from_vec(&cut).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    for (offered, fits) in [(100, false), (1_232, true), (65_535, true)] {
        let mut asked = asked.clone();
        let mut edns = Edns::new();
        edns.set_max_payload(offered);
        asked.set_edns(edns);
        let response = bytes(&asked, Way::Udp, &many());
        assert!(response.len() <= 1_232);
        let response = Message::from_vec(&response).unwrap();
        assert_eq!(response.metadata.truncation, !fits, "{offered}");
        assert!(response.edns.is_some());
        let mut records = asked.clone();
        records.queries[0].set_query_type(RecordType::SRV);
        assert!(bytes(&records, Way::Udp, &many()).len() <= 1_232);
    }
    let whole = ask(&asked, Way::Tcp, &many());
    assert_eq!(whole.answers.len(), MAX_ANSWERS);
    assert!(!whole.metadata.truncation);
    // Without the addresses of the targets an answer may fit.
    let records = query("web.service.synod.", RecordType::SRV);
    let five = Fixed(many().0.into_iter().take(9).collect());
    let response = ask(&records, Way::Udp, &five);
    assert_eq!((response.answers.len(), response.additionals.len()), (9, 0));
}

#[test]
fn who_asks_too_much_gets_no_more_than_was_sent() {
    let asked = query("web.service.synod.", RecordType::A);
    let response = bytes(&asked, Way::UdpTruncated, &many());
    assert!(response.len() <= asked.to_vec().unwrap().len());
    assert!(Message::from_vec(&response).unwrap().metadata.truncation);
}

#[test]
fn who_weighs_more_is_first_more_often() {
    let instances = || {
        vec![
            instance(1, "10.0.0.1", 1),
            instance(2, "10.0.0.2", 3),
            instance(3, "10.0.0.3", 0),
        ]
    };
    let mut heavy = 0;
    for _ in 0..4_000 {
        let order = shuffled(instances());
        assert_eq!(order[2].id, "web-3", "it has no weight");
        heavy += u32::from(order[0].id == "web-2");
    }
    // 3,000 are expected, with a deviation of 27.
    assert!((2_800..=3_200).contains(&heavy), "{heavy}");
}
