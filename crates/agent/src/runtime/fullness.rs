//! Who is told that the kernel's maps fill up, or have lost something.

use std::sync::PoisonError;

use sinew_api::EventKind;
use sinew_datapath::Totals;

use super::{Runtime, SharedDatapath};
use crate::{capacity, core::Input};

impl Runtime {
    /// Whether something found no room since the last look.
    pub(super) fn look_at_losses(&mut self) {
        let totals = self.datapath.lock().totals();
        let Ok(now) = totals else { return };
        let (first, before) = self.totals.unwrap_or((now, now));
        // Of what was lost before this start nobody was told either.
        let notices_before = self.totals.map_or(0, |_| before.notices_lost);
        self.totals = Some((first, now));
        if is_more(&before, &now) {
            self.look_at_filling();
        }
        if now.notices_lost > notices_before {
            self.feed(Input::NoticesLost);
        }
    }

    /// Tells once of each map that is nearly full. Those that callers fill are counted elsewhere:
    /// that may take milliseconds.
    pub(super) fn look_at_filling(&self) {
        let (bus, told, datapath) = (self.bus.clone(), self.told.clone(), self.datapath.clone());
        let known = self.fullness();
        self.background.spawn_blocking(move || {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let now: Vec<String> = known.into_iter().chain(filling(&datapath)).collect();
            // How full it is changes; of which map it is told does not.
            let of = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
            for message in now.iter().filter(|text| !told.contains(&of(text))) {
                tracing::warn!("{message}");
                bus.publish(None, EventKind::Warning { message: message.clone() });
            }
            *told = now.iter().map(|text| of(text)).collect();
        });
    }

    /// What is nearly full, and what was lost, as far as it is known without asking the kernel.
    pub(super) fn fullness(&self) -> Vec<String> {
        let usage = self.core.usage(self.core.intent());
        let losses = self.totals.iter().flat_map(|(first, now)| capacity::losses(first, now));
        let servers = self.names.too_many_servers();
        let others = self.core.coarse().into_iter().chain(self.core.left_out());
        usage.warnings().chain(others).chain(losses).chain(servers).collect()
    }
}

fn is_more(before: &Totals, now: &Totals) -> bool {
    now.edges_lost > before.edges_lost || now.sockets_lost > before.sockets_lost
}

/// Which tables callers have nearly filled.
pub(crate) fn filling(datapath: &SharedDatapath) -> Vec<String> {
    match datapath.lock().filling() {
        Ok(filling) => capacity::filling_warnings(&filling).collect(),
        Err(error) => {
            tracing::debug!("how full the tables of callers are cannot be seen: {error}");
            Vec::new()
        }
    }
}
