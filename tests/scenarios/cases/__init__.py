"""The scenarios by their names. Each class says what must hold, and does one thing to the stack."""

from .bad_input import FarFuture, LateData, MalformedEvents
from .consumer import ConsumerCrash, ConsumerRestart, FrozenConsumer, TwoProcessors
from .environment import BrokerRestart, Partition, PostgresDown, RestUnavailable
from .forgetting import LaggingStandby, RestoredBackup
from .numbering import SecondSite, SharedBroker
from .poison import LargeEvents, PoisonEvents
from .pressure import FullDisks, MemoryPressure, SlowConsumer

FAILURES = {
    scenario.name: scenario
    for scenario in [
        ConsumerCrash,
        ConsumerRestart,
        BrokerRestart,
        PostgresDown,
        RestUnavailable,
        MalformedEvents,
        Partition,
        MemoryPressure,
        SlowConsumer,
        LateData,
        FullDisks,
        FarFuture,
        FrozenConsumer,
        TwoProcessors,
        SharedBroker,
        LaggingStandby,
        RestoredBackup,
        SecondSite,
        PoisonEvents,
        LargeEvents,
    ]
}
