use crate::num::{Flagged, Flags};

#[test]
fn flags_print_in_a_fixed_order() {
    assert_eq!(
        (Flags::TIE | Flags::SATURATED).to_string(),
        "saturated, tie"
    );
    assert_eq!(Flags::default().to_string(), "");
    let mut all = Flags::WRAPPED | Flags::SHIFT_OVERFLOW;
    all |= Flags::INEXACT;
    assert_eq!(all.to_string(), "wrapped, inexact, shift overflow");
}

#[test]
fn flags_are_a_set() {
    let set = Flags::TIE | Flags::INEXACT;
    assert!(set.contains(Flags::TIE) && set.contains(set) && !set.contains(Flags::WRAPPED));
    assert!(set.contains(Flags::default()) && !set.is_empty() && Flags::default().is_empty());
    assert!(Flags::TIE.when(false).is_empty());
}

#[test]
fn chains_join_flags() {
    let chained = Flagged::new(2, Flags::TIE)
        .map(|x| x + 1)
        .and_then(|x| Flagged::new(x * 2, Flags::SATURATED))
        .flag(Flags::INEXACT);
    assert_eq!(
        chained,
        Flagged::new(6, Flags::TIE | Flags::SATURATED | Flags::INEXACT)
    );
}
