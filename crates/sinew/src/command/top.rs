//! `sinew top`.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use sinew_api::Client;
use tokio::{sync::mpsc, time::MissedTickBehavior};

use super::signals::Signals;
use crate::{
    args::Top,
    context::Context,
    error::Error,
    top::{
        plain,
        rates::{Frame, Snapshot, between},
        view::View,
    },
};

/// From look to look.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks at the agent's counters.
struct Looker {
    client: Client,
    began: Instant,
    before: Snapshot,
    told: Frame,
}

impl Looker {
    async fn new(client: Client) -> Result<Self, Error> {
        let began = Instant::now();
        let before = look(&client, began).await?;
        Ok(Self { client, began, before, told: Frame::default() })
    }

    /// What happened since the last look.
    async fn next(&mut self) -> Result<Frame, Error> {
        let now = look(&self.client, self.began).await?;
        let frame = between(&self.before, &now).after(&self.told);
        self.before = now;
        self.told.clone_from(&frame);
        Ok(frame)
    }
}

async fn look(client: &Client, began: Instant) -> Result<Snapshot, Error> {
    let edges = client.edges().await?;
    let at = began.elapsed();
    Ok(Snapshot { at, edges, services: client.services().await? })
}

pub(super) async fn top(args: &Top, context: &Context) -> Result<(), Error> {
    let looker = Looker::new(context.client().await?).await?;
    let live =
        !args.once && !context.json && io::stdout().is_terminal() && io::stdin().is_terminal();
    if live { show(looker).await } else { print(looker, args.once, context).await }
}

/// One plain table, or a line of JSON each second.
async fn print(mut looker: Looker, once: bool, context: &Context) -> Result<(), Error> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let frame = looker.next().await?;
        if context.json {
            context.print_json_line(&frame)?;
        } else {
            context.print(&plain::text(&frame, context.style, context.width))?;
        }
        if once || !context.json {
            return Ok(());
        }
    }
}

/// The terminal, given back as it was however this ends. A panic gives it back before its message:
/// [`ratatui::try_init`] sees to that.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Self, Error> {
        ratatui::try_init().map(Self).map_err(Error::system("draw on the terminal"))
    }

    fn draw(&mut self, view: &View) -> Result<(), Error> {
        self.0.draw(|canvas| view.draw(canvas)).map(drop).map_err(Error::Output)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What the terminal says, from a thread that waits for it; it ends with the process.
fn terminal_events() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn show(mut looker: Looker) -> Result<(), Error> {
    let mut signals = Signals::catch()?;
    let mut screen = Screen::take()?;
    let mut events = terminal_events();
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.tick().await;
    let mut view = View::new();
    loop {
        screen.draw(&view)?;
        tokio::select! {
            _ = looks.tick() => match looker.next().await {
                Ok(frame) => view.update(frame),
                Err(Error::Client(error)) if error.agent_is_away() => {
                    view.say("the agent is away; waiting for it".to_owned());
                }
                Err(error) => return Err(error),
            },
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if view.press(key) {
                        return Ok(());
                    }
                }
                // A new size is drawn by the next turn.
                Some(_) => {}
                None => return Ok(()),
            },
            _ = signals.next() => return Ok(()),
        }
    }
}
