//! `logs`, through the end of an agent.

use sinew_api::{LogLine, LogPosition};
use sinew_model::ServiceName;

use crate::{Host, fake::Fake, fake::World};

#[tokio::test]
async fn lines_are_asked_for_as_said() {
    let host = Host::new();
    let name = |text| ServiceName::new(text).unwrap();
    let position = |text| LogPosition { service: name(text), replica: 0, offset: 0 };
    let positions = vec![position("db"), position("web")];
    let mut agent = host.agent(World { positions, ..World::default() });
    let mut logs = host.follow(&["logs", "--tail", "5", "db", "web"]);
    let (asked, _) = agent.asked("GET /v1/logs?").await;
    assert_eq!(asked, "GET /v1/logs?follow=false&service=db,web&tail=5");
    agent.log("db", 0, "one", 4);
    logs.says(&["db/0  | one"]).await;
    drop(agent.kill().await);
    assert_eq!(logs.ends().await.status(), 1);
}

#[tokio::test]
async fn one_replica_is_shown_alone_and_one_that_never_was_is_told() {
    let host = Host::new();
    let name = || ServiceName::new("db").unwrap();
    let positions = [0, 1].map(|replica| LogPosition { service: name(), replica, offset: 9 });
    let line = |replica, text: &str| LogLine {
        service: name(),
        replica,
        text: text.to_owned(),
        offset: 9,
    };
    let kept = vec![line(0, "of another"), line(1, "listening")];
    let _agent = host.agent(World { positions: positions.into(), kept, ..World::default() });
    assert_eq!(host.run(&["logs", "db/1"]).await.stdout(), "db/1  | listening\n");
    for source in ["db/2", "dd"] {
        let ended = host.run(&["logs", "db", source]).await;
        assert_eq!(
            ended.stderr(),
            format!(
                "error: there is no {source}, and nothing that it wrote\n\
                 help: see what there is with `sinew ps`\n"
            )
        );
        assert_eq!((ended.stdout(), ended.status()), ("", 1));
    }
}

#[tokio::test]
async fn a_follower_goes_on_behind_the_last_line_when_the_agent_is_back() {
    let host = Host::new();
    let name = |text| ServiceName::new(text).unwrap();
    let position = |text, offset| LogPosition { service: name(text), replica: 0, offset };
    let positions = vec![position("db", 50), position("web", 100)];
    let mut agent = host.agent(World { positions, ..World::default() });
    let mut logs = host.follow(&["logs", "-f", "-n", "1", "db"]);
    agent.asked("GET /v1/logs?").await;
    // A line of before the start, and a new one.
    agent.log("db", 0, "old", 50);
    agent.log("db", 0, "new", 54);
    logs.says(&["db/0  | old", "db/0  | new"]).await;

    let world = agent.kill().await;
    logs.says(&["sinew | the agent is gone; waiting for it"]).await;
    let mut agent = Fake::start(host.socket(), world);
    let (asked, _) = agent.asked("GET /v1/logs?").await;
    assert_eq!(asked, "GET /v1/logs?follow=true&service=db&from=db/0@54");
    agent.log("db", 0, "newer", 60);
    logs.says(&["db/0  | newer"]).await;
}
