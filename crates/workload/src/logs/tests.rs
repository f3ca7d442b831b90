use super::*;

fn log(content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn a_tail_has_the_lines_asked_for() {
    let content: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
    let file = log(content.as_bytes());
    for count in [0, 1, 7, 20_000, 50_000, 50_001] {
        let found = tail(file.path(), count).unwrap();
        let expected: Vec<&str> =
            content.lines().skip(50_000_usize.saturating_sub(count)).collect();
        assert!(found.lines == expected, "{count}");
        assert_eq!((found.partial, found.end), (None, content.len() as u64));
    }
}

#[test]
fn an_empty_log_has_no_tail() {
    assert_eq!(tail(log(b"").path(), 5).unwrap(), Tail::default());
    let found = tail(log(b"no end").path(), 5).unwrap();
    assert_eq!((found.lines.len(), found.partial.as_deref(), found.end), (0, Some("no end"), 0));
}

#[test]
fn a_hole_at_the_head_is_passed_over_with_the_line_it_cut() {
    let content: String = (0..5000).map(|number| format!("line {number}\n")).collect();
    let file = log(content.as_bytes());
    let open = File::options().write(true).open(file.path()).unwrap();
    let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&open, flags, 0, 8192).unwrap();
    let found = tail(file.path(), usize::MAX).unwrap();
    let kept = &content[8192..];
    let expected: Vec<&str> = kept[kept.find('\n').unwrap() + 1..].lines().collect();
    assert!(found.lines == expected);
}

#[test]
fn a_very_long_line_comes_in_pieces() {
    let mut lines = Lines::default();
    lines.push(&vec![b'a'; MAX_LINE_BYTES]);
    assert_eq!(lines.next(), None);
    lines.push(b"\n");
    assert_eq!(lines.next().unwrap().0.len(), MAX_LINE_BYTES);
    lines.push(&vec![b'b'; 2 * MAX_LINE_BYTES + 3]);
    lines.push(b"\nend\n");
    let lengths: Vec<usize> =
        std::iter::from_fn(|| lines.next()).map(|line| line.0.len()).collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 3, 3]);
}

proptest::proptest! {
    #[test]
    fn lines_do_not_depend_on_where_reads_end(
        text in "[ab\n]{0,200}", cuts in proptest::collection::vec(0_usize..200, 0..6)
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut lines = Lines::default();
        for pair in cuts.windows(2) {
            lines.push(&text.as_bytes()[pair[0]..pair[1]]);
        }
        let mut found = Vec::new();
        let mut taken = 0;
        while let Some((line, end)) = lines.next() {
            taken += line.len() as u64 + 1;
            proptest::prop_assert_eq!(end, taken);
            found.push(line);
        }
        let mut expected: Vec<&str> = text.split('\n').collect();
        let partial = expected.pop().unwrap();
        proptest::prop_assert_eq!(found, expected);
        proptest::prop_assert_eq!(lines.partial().unwrap_or_default(), partial);
        proptest::prop_assert_eq!(lines.held_bytes(), partial.len() as u64);
    }
}

#[test]
fn any_bytes_are_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let long = vec![b'x'; 5000];
    sinew_fuzz::each(&[b"one\ntwo\r\n\nthree", &long, "\u{1f980}\n\u{fffd}".as_bytes()], |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let tail = tail(&path, 3).unwrap();
        assert!(tail.lines.len() <= 3);
        let start = start_of_last(&path, 2).unwrap();
        assert!(start <= bytes.len() as u64);
        assert!(start == 0 || bytes[start as usize - 1] == b'\n', "{start}");
    });
}
