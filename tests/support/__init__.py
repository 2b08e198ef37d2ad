"""Fixtures, fakes and finished projects that tests share; imported as a package."""
