"""What the diagnostics tell of a meter that sends telegrams. Loaded for a moment at a time."""


def count_into(counts, listener, guard, conversation):
    """Add what they have counted; `conversation` is None where the meter is not asked."""
    counts["protocol"] = listener.NAME
    counts["telegrams"] = listener.accepted
    counts["rejected"] = sum(listener.rejected.values())
    counts["rejected_by_reason"] = listener.rejected
    counts["skipped_bytes"] = listener.skipped
    counts["held"] = sum(guard.held.values())
    counts["held_by_reason"] = guard.held
    counts["held_last"] = guard.explanation
    counts["attempts_failed"] = 0
    if conversation:
        counts["attempts_failed"] = conversation.failures
        counts["failed_by_reason"] = conversation.failed
