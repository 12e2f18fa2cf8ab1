"""A user's file with mistakes that a type checker reports: every line marked, and no other."""

from __future__ import annotations

import surefoot


def mistakes() -> None:
    """Misspelled arguments, and arguments of a wrong type."""
    surefoot.RectifiedAdam(learning_rate="fast")  # reported
    surefoot.RectifiedAdam(beta1=0.9)  # reported
    surefoot.RectifiedAdam(amsgrad="yes")  # reported
    surefoot.RectifiedAdam(weight_decay=[1e-4])  # reported
    surefoot.RectifiedAdam(unrectified_update="wait")  # reported
    surefoot.RectifiedAdam(sync_period=6)  # reported
    surefoot.Nadam(amsgrad=True)  # reported
    surefoot.Nadam(schedule_decay="slow")  # reported
    surefoot.Nadam(clip_norm=1.0)  # reported
    surefoot.Lookahead("adam", period=6)  # reported
    surefoot.Lookahead("adam", learning_rate=0.1)  # reported
    surefoot.Lookahead("adam", slow_step_size="half")  # reported
    surefoot.Lookahead()  # reported
    surefoot.Ranger(finalize="both")  # reported
    surefoot.Ranger(schedule_decay=0.004)  # reported
    surefoot.Ranger(total_steps=None)  # reported
