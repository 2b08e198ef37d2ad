"""The browser application: seven tabs on the engine's seven stages.

A folder a stage holds its tab, its service (which asks :mod:`dpd_core`) and its view (which turns
the answer into plain values). What tabs share is in :mod:`app.ui`, the server's own work in
:mod:`app.server`, and what stands around the tabs in :mod:`app.shell`.
"""
