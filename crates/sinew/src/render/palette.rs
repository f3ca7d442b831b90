//! A colour for each service: the same one today and tomorrow, and no two alike while there are
//! colours left.

use std::collections::BTreeMap;

use sinew_model::ServiceName;

use super::style::Tint;

/// Of the 256-colour palette: apart from each other, readable on black and on white, and none of
/// those that states use.
const COLOURS: [u8; 12] = [39, 170, 37, 208, 99, 70, 205, 67, 178, 63, 134, 30];

/// Which service has which colour.
#[derive(Debug, Default)]
pub(crate) struct Palette {
    given: BTreeMap<ServiceName, u8>,
}

impl Palette {
    /// Colours for these; in the order of their names, so that it does not matter who comes first.
    pub(crate) fn of<'a>(services: impl IntoIterator<Item = &'a ServiceName>) -> Self {
        let mut sorted: Vec<_> = services.into_iter().collect();
        sorted.sort();
        let mut palette = Self::default();
        for service in sorted {
            palette.tint(service);
        }
        palette
    }

    /// The colour of `service`: what its name says, or the next one that is free.
    pub(crate) fn tint(&mut self, service: &ServiceName) -> Tint {
        if let Some(&colour) = self.given.get(service) {
            return Tint::Service(colour);
        }
        let first = hash(service.as_str()) % COLOURS.len();
        let taken = |colour: &u8| self.given.values().any(|other| other == colour);
        let in_turn = (0..COLOURS.len()).map(|step| COLOURS[(first + step) % COLOURS.len()]);
        let colour = in_turn.into_iter().find(|colour| !taken(colour)).unwrap_or(COLOURS[first]);
        self.given.insert(service.clone(), colour);
        Tint::Service(colour)
    }
}

/// FNV-1a: small, and the same on every machine.
fn hash(text: &str) -> usize {
    let hash = text
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn code(tint: Tint) -> u8 {
        match tint {
            Tint::Service(code) => code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_service_keeps_its_colour() {
        let names = ["web", "api", "db"].map(name);
        let mut forth = Palette::of(&names);
        let mut back = Palette::of(names.iter().rev());
        for service in &names {
            assert_eq!(forth.tint(service), back.tint(service));
            assert_eq!(forth.tint(service), forth.tint(service));
        }
    }

    #[test]
    fn no_two_are_alike_while_colours_are_left() {
        let names: Vec<_> = (0..COLOURS.len()).map(|i| name(&format!("svc-{i}"))).collect();
        let mut palette = Palette::of(&names);
        let colours: BTreeSet<u8> = names.iter().map(|n| code(palette.tint(n))).collect();
        assert_eq!(colours.len(), COLOURS.len());
        // One more than there are colours still gets one.
        assert!(COLOURS.contains(&code(palette.tint(&name("one-more")))));
    }
}
