"""The browser application: seven tabs on the engine's seven stages.

Tabs hold no business logic: they build components and wire them to functions of
:mod:`app.services`-like modules, which call :mod:`dpd_core`. What is shown is made by the pure
functions of :mod:`app.views`.
"""
