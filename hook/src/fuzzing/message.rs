//! The messages for operators.

use std::fmt::Display;

/// A message for an operator is one line of bounded length without anything that a terminal obeys,
/// whatever it quotes.
pub fn assert_one_line(message: &impl Display) {
    let message = message.to_string();
    assert!(!message.is_empty());
    assert!(!message.contains(char::is_control), "control characters: {message:?}");
    assert!(message.chars().count() < 1000, "{} characters: {message:?}", message.chars().count());
}
