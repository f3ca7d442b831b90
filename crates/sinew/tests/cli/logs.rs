//! `logs`, through the end of an agent.

use sinew_api::LogPosition;
use sinew_model::ServiceName;

use crate::{Host, fake::Fake, fake::World};

#[tokio::test]
async fn lines_are_asked_for_as_said() {
    let host = Host::new();
    let mut agent = host.agent(World::default());
    let mut logs = host.follow(&["logs", "--tail", "5", "db", "web"]);
    let (asked, _) = agent.asked("GET /v1/logs?").await;
    assert_eq!(asked, "GET /v1/logs?follow=false&service=db,web&tail=5");
    agent.log("db", 0, "one", 4);
    logs.says(&["db/0  | one"]).await;
    drop(agent.kill().await);
    assert_eq!(logs.ends().await.status(), 1);
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
