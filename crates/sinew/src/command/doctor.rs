//! `sinew doctor`: facts are gathered first, then judged, so that every verdict can be tested.

use crate::{
    context::Context,
    error::Error,
    render::style::{Style, Tint},
};

use finding::{Finding, Verdict};

mod facts;
mod finding;
mod judge;

pub(super) fn doctor(context: &Context) -> Result<(), Error> {
    let facts = facts::gather(context);
    let findings = judge::judge(&facts);
    context.show(&findings, |findings| text(findings, context.style))?;
    if findings.iter().any(|finding| finding.verdict == Verdict::Blocks) {
        return Err(Error::DoctorBlocks);
    }
    Ok(())
}

/// A line a finding; what it means and what to do below those that are not well.
fn text(findings: &Vec<Finding>, style: Style) -> String {
    let mut text = String::new();
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let (word, tint) = match finding.verdict {
            Verdict::Ok => ("ok", Tint::Good),
            Verdict::Warns => ("warns", Tint::Busy),
            Verdict::Blocks => ("blocks", Tint::Bad),
        };
        let word = style.paint(tint, &format!("{word:6}"));
        text.push_str(&format!("{word}  {:width$}  {}\n", finding.check, finding.found));
        for line in finding.means.iter().chain(&finding.remedy) {
            text.push_str(&format!("{:6}  {:width$}  {line}\n", "", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_explain_themselves() {
        let findings = vec![
            Finding::ok("kernel", "Linux 6.18.1"),
            Finding::blocks("bpffs", "/sys/fs/bpf is no bpf file system", "nothing can be pinned")
                .remedy("run: mount -t bpf bpf /sys/fs/bpf"),
        ];
        assert_eq!(
            text(&findings, Style { colour: false }),
            "\
ok      kernel  Linux 6.18.1
blocks  bpffs   /sys/fs/bpf is no bpf file system
                nothing can be pinned
                run: mount -t bpf bpf /sys/fs/bpf
"
        );
    }
}
