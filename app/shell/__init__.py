"""What stands around the tabs: the sidebar and its projects."""
