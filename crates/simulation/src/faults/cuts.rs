//! Cuts of links: symmetric, asymmetric, partial, and in the shapes of a bridge, a chain and a
//! star.

use crate::choices::Stream;
use crate::words;
use crate::world::World;

impl World {
    /// Cuts links in a different way than before, or restores all of them.
    pub(super) fn change_cuts(&mut self) {
        let heals = self.env.net.has_cuts() && self.env.choices.often(Stream::Fault, 600);
        if !self.env.choices.often(Stream::Fault, 200) {
            self.env.net.heal();
        }
        if heals {
            words::fault(&mut self.env, None, "all links work");
            return;
        }
        self.env.counts.cuts += 1;
        let one = self.any_slot();
        let shape = self.env.choices.below(Stream::Fault, 8);
        let what = match shape {
            0 => {
                let other = self.any_slot();
                self.env.net.cut(one, other);
                "one direction between two nodes"
            }
            1 => {
                self.isolate(one);
                "one node isolated"
            }
            2 => {
                self.halves();
                "two sides"
            }
            3 => {
                self.bridge(one);
                "two sides and a bridge"
            }
            4 => {
                self.chain();
                "a chain"
            }
            5 => {
                self.star(one);
                "a star"
            }
            6 => {
                let other = self.any_slot();
                self.env.net.cut_both(one, other);
                "between two nodes"
            }
            _ => {
                self.deaf(one);
                "one node deaf or mute"
            }
        };
        words::fault(&mut self.env, None, &format!("cut: {what}"));
    }

    /// Cuts this node off from all others.
    pub(crate) fn isolate(&mut self, one: usize) {
        for other in 0..self.nodes.len() {
            self.env.net.cut_both(one, other);
        }
    }

    /// Two sides that can't reach each other.
    fn halves(&mut self) {
        let sides: Vec<bool> = (0..self.nodes.len())
            .map(|_| self.env.choices.often(Stream::Fault, 500))
            .collect();
        self.cut_where(|a, b| sides.get(a) != sides.get(b));
    }

    /// Two sides that can't reach each other, and one node that both can reach.
    fn bridge(&mut self, one: usize) {
        let sides: Vec<bool> = (0..self.nodes.len())
            .map(|_| self.env.choices.often(Stream::Fault, 500))
            .collect();
        self.cut_where(|a, b| a != one && b != one && sides.get(a) != sides.get(b));
    }

    /// Each node reaches only its neighbours.
    pub(crate) fn chain(&mut self) {
        self.cut_where(|a, b| a.abs_diff(b) > 1);
    }

    /// All nodes reach only one node.
    pub(crate) fn star(&mut self, one: usize) {
        self.cut_where(|a, b| a != one && b != one);
    }

    /// One node receives nothing, or all others receive nothing from it.
    fn deaf(&mut self, one: usize) {
        let mute = self.env.choices.often(Stream::Fault, 500);
        for other in 0..self.nodes.len() {
            if mute {
                self.env.net.cut(one, other);
            } else {
                self.env.net.cut(other, one);
            }
        }
    }

    fn cut_where(&mut self, cut: impl Fn(usize, usize) -> bool) {
        let count = self.nodes.len();
        for a in 0..count {
            for b in 0..count {
                if a != b && cut(a, b) {
                    self.env.net.cut(a, b);
                }
            }
        }
    }
}
